/** The simulator as one file of JavaScript, with a bug planted or without. Nothing of it is known to the production code. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { type Mutant } from './mutants/mutant.js';

const ROOT = join(import.meta.dirname, '../..');

/** Throws when the text to be replaced is not there exactly once: the code has moved on, and the mutant must follow. */
export async function bundle(outfile: string, mutant: Mutant | null): Promise<void> {
  const planted = { count: 0 };
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['test/sim/main.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    conditions: ['@rephub/source'],
    // Compiled parts cannot be taken in; most of them no simulated run uses.
    external: ['@node-rs/crc32', 'better-sqlite3', 'koffi', 'fs-ext', 'bufferutil', 'msgpackr-extract'],
    banner: {
      js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
    },
    sourcemap: 'linked',
    logLevel: 'error',
    plugins: mutant === null ? [] : [plant(mutant, planted)],
  });
  if (mutant !== null && planted.count !== 1) {
    throw new Error(`mutant ${mutant.id}: ${mutant.file} was taken in ${planted.count} times, expected once`);
  }
}

function plant(mutant: Mutant, planted: { count: number }): Plugin {
  const path = join(ROOT, 'packages', mutant.file);
  return {
    name: 'plant',
    setup: (bundler) => {
      bundler.onLoad({ filter: /\.ts$/ }, async ({ path: loaded }) => {
        if (loaded !== path) return null;
        const source = await readFile(path, 'utf8');
        const parts = source.split(mutant.find);
        if (parts.length !== 2) {
          throw new Error(
            `mutant ${mutant.id}: its text is ${parts.length - 1} times in ${mutant.file}, expected once`,
          );
        }
        planted.count += 1;
        return { contents: parts.join(mutant.replace), loader: 'ts' };
      });
    },
  };
}
