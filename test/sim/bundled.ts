/**
 * `npm run sim`: the simulator (main.ts) as one file, in a process of its own. Translated module by module while it runs, as
 * tests are, a seed takes a tenth more of the processor.
 */
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { bundle } from './bundle.js';

/** The file finds its packages from here, and git ignores it. Others may run beside. */
const folder = join(import.meta.dirname, `../../node_modules/.cache/sim-${process.pid}`);

/**
 * Most of its functions live for a call, or for a world, and are compiled again and again: less is put into each, and it is
 * not looked at as long (bench/NOTES.md). An eighth of the processor time.
 */
const COMPILER = [
  '--max-inlined-bytecode-size=120',
  '--max-inlined-bytecode-size-cumulative=250',
  '--no-turbo-escape',
  '--no-turbo-loop-peeling',
];

await mkdir(folder, { recursive: true });
const file = join(folder, 'main.mjs');
await bundle(file, null);
const child = spawn(process.execPath, [...COMPILER, '--enable-source-maps', file, ...process.argv.slice(2)], {
  stdio: 'inherit',
});
// A terminal tells the child itself; who kills this process alone ends both.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
  child.on('exit', (...outcome) => {
    resolve(outcome);
  });
});
await rm(folder, { recursive: true, force: true });
process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
