import { runScript } from './run.js';
import { scriptOf } from './script.js';
const until = Date.now() + 150_000;
let n = 0;
for (let seed = 9000; Date.now() < until; seed++) {
  const script = scriptOf(seed);
  const { violation, error } = await runScript({ ...script, setup: { ...script.setup, compress: 'lz4' } });
  n++;
  if (violation !== null || error !== null) console.log('seed', seed, violation?.message, String(error));
}
console.log('ran', n);
