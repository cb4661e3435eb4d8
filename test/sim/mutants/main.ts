/**
 * `npm run sim:mutants`: plants each bug of list.ts in a copy of the whole system and runs seeds until the simulator finds it.
 * Fails when one survives: the promise that it breaks is not checked then, whatever is said elsewhere.
 */
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { count, EXIT, optional, runMain, text, withDefault, command } from '@rephub/command';
import { asError } from '@rephub/platform';
import { CHECKED } from '../promises/index.js';
import { bundle } from '../bundle.js';
import { MUTANTS } from './list.js';
import { type Mutant } from './mutant.js';

/** Bundles find their packages from here, and git ignores it. */
const FOLDER = join(import.meta.dirname, '../../../node_modules/.cache/sim-mutants');

interface Caught {
  readonly seed: number;
  /** Whose checker found it. */
  readonly by: string;
}

async function hunt(mutant: Mutant, seeds: number): Promise<Caught | null> {
  const file = join(FOLDER, `${mutant.id}.mjs`);
  await bundle(file, mutant);
  const biased = mutant.profile === undefined ? [] : ['--profile', mutant.profile];
  const output = await outputOf(process.execPath, [file, '--seeds', `1..${seeds}`, ...biased]);
  const [, seed, by] = /^FAILED: seed (\d+)[^\n]*\n([^:\n]*)/m.exec(output) ?? [];
  if (seed !== undefined) return { seed: Number(seed), by: by ?? '' };
  if (output.includes(`${seeds} seeds,`)) return null;
  throw new Error(`mutant ${mutant.id} came to no end:\n${output.slice(-2000)}`);
}

function outputOf(program: string, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', () => {
      resolve(Buffer.concat(chunks).toString());
    });
  });
}

async function huntAll(
  mutants: readonly Mutant[],
  seeds: number,
  jobs: number,
  out: (text: string) => void,
): Promise<readonly string[]> {
  const survivors: string[] = [];
  const left = [...mutants];
  const worker = async (): Promise<void> => {
    for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift()) {
      const caught = await hunt(mutant, seeds).catch((thrown: unknown) => asError(thrown).message.slice(0, 300));
      const isCaught = caught !== null && typeof caught !== 'string';
      if (!isCaught) survivors.push(mutant.id);
      const survived = typeof caught === 'string' ? caught : `SURVIVED ${seeds} seeds`;
      const how = isCaught ? `caught by seed ${caught.seed}: ${caught.by}` : survived;
      out(`${mutant.promise.padEnd(10)} ${mutant.id.padEnd(40)} ${how}\n`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return survivors;
}

const run = command({
  name: '',
  summary: 'plants bugs, and sees whether the simulator finds them',
  options: {
    only: optional(text('a part of a name'), {
      placeholder: 'TEXT',
      help: 'mutants whose name or promise contains it',
    }),
    seeds: withDefault(count({ min: 1, max: 10_000 }), '20', { placeholder: 'N', help: 'seeds that each is given' }),
    jobs: optional(count({ min: 1, max: 64 }), {
      placeholder: 'N',
      help: 'mutants at once; as many as there are processors',
    }),
  },
  run: async ({ only, seeds, jobs }, { out }) => {
    const mutants = MUTANTS.filter(({ id, promise }) => only === undefined || id.includes(only) || promise === only);
    await mkdir(FOLDER, { recursive: true });
    const survivors = await huntAll(mutants, seeds, jobs ?? availableParallelism(), out);
    await rm(FOLDER, { recursive: true, force: true });
    const without = CHECKED.filter((id) => !MUTANTS.some(({ promise }) => promise === id));
    if (without.length > 0) out(`checked, and never tried by a mutant: ${without.join(', ')}\n`);
    out(`${mutants.length - survivors.length} of ${mutants.length} mutants caught\n`);
    return survivors.length === 0 && without.length === 0 ? EXIT.done : EXIT.failed;
  },
});

await runMain({
  name: 'sim:mutants',
  version: '0',
  summary: 'the mutants of the deterministic simulator',
  environmentPrefix: 'REPHUB_MUTANTS',
  commands: [run],
});
