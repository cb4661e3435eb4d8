/** `npm run sim`: whole systems from seeds, every promise checked while they run. See --help. */
import { EXIT, flag, optional, runMain, command, count, duration, path, text } from '@rephub/command';
import { simulate } from './simulate.js';

const run = command({
  name: '',
  summary: 'runs whole systems in virtual time, one from each seed, and checks the promises while they run',
  options: {
    seed: optional(count({ max: 2 ** 31 }), { placeholder: 'N', help: 'this seed alone' }),
    seeds: optional(text('A..B'), { placeholder: 'A..B', help: 'these seeds' }),
    time: optional(duration({ min: 1000 }), { placeholder: 'DURATION', help: 'fresh seeds for so long' }),
    from: optional(count({ max: 2 ** 31 }), {
      placeholder: 'N',
      help: 'the first of the fresh seeds; the clock decides when left out',
    }),
    script: optional(path(), { placeholder: 'FILE', help: 'a script as --shrink leaves it' }),
    profile: optional(text('NAME'), { placeholder: 'NAME', help: 'seeds biased towards something; see profiles.ts' }),
    trace: flag({ help: 'print everything that happens' }),
    shrink: flag({ help: 'look for the fewest steps that still fail, and write them to a file' }),
  },
  examples: ['npm run sim -- --seed 7 --trace', 'npm run sim -- --seeds 1..100', 'npm run sim -- --time 60s'],
  run: async (values, { out }) => ((await simulate(values, out)) ? EXIT.done : EXIT.failed),
});

await runMain({
  name: 'sim',
  version: '0',
  summary: 'the deterministic simulator',
  environmentPrefix: 'REPHUB_SIM',
  commands: [run],
});
