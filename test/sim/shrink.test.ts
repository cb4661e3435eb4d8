/** `--shrink`: of a planted bug's seed the fewest steps that still show it are left in a file, and `--script` shows it again from there. */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bundle } from './bundle.js';
import { MUTANTS } from './mutants/list.js';
import { runScript } from './run.js';
import { type Script, scriptOf } from './script.js';

/** Bundles find their packages from here, and git ignores it. */
const CACHE = join(import.meta.dirname, '../../node_modules/.cache');
const LIMIT_MS = 240_000;
const SEED = 2;

interface Told {
  readonly exitCode: number | null;
  /** What was broken, and how. */
  readonly violation: string;
  readonly text: string;
}

function run(program: string, words: readonly string[], directory: string): Told {
  const { status, stdout } = spawnSync(process.execPath, [program, ...words], {
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: directory },
  });
  const [, violation] = /^FAILED: seed [^\n]*\n([A-Z-]+: [^\n]*)/m.exec(stdout) ?? [];
  return { exitCode: status, violation: violation ?? '', text: stdout };
}

it(
  'a shrunk script is shorter, breaks the same promise again from its file, and breaks none without the bug',
  { timeout: LIMIT_MS },
  async () => {
    const mutant = MUTANTS.find(({ id }) => id === 'write-neither-recorded-nor-marked') ?? null;
    expect(mutant).not.toBeNull();
    await mkdir(CACHE, { recursive: true });
    const folder = await mkdtemp(join(CACHE, 'sim-shrink-'));
    const scripts = await mkdtemp(join(tmpdir(), 'sim-shrink-'));
    try {
      const program = join(folder, 'sim.mjs');
      await bundle(program, mutant);
      const found = run(program, ['--seed', `${SEED}`, '--shrink'], scripts);
      expect(found).toMatchObject({ exitCode: 1, violation: expect.stringMatching(/^ORD: /) as string });

      const [file] = await readdir(scripts);
      const path = join(scripts, file ?? '');
      expect(found.text).toContain(`--script ${path}`);
      const script = JSON.parse(await readFile(path, 'utf8')) as Script;
      expect(script.steps.length).toBeGreaterThan(0);
      expect(script.steps.length).toBeLessThan(5);
      expect(scriptOf(SEED).steps.length).toBeGreaterThan(20);

      const again = run(program, ['--script', path], scripts);
      expect(again.text).toContain(`again: npm run sim -- --script ${path}\n`);
      expect(again).toMatchObject({ exitCode: 1, violation: expect.stringMatching(/^ORD: /) as string });
      expect(run(program, ['--script', path], scripts).violation).toBe(again.violation);
      const { violation, error } = await runScript(script);
      expect([violation, error]).toEqual([null, null]);
    } finally {
      await rm(folder, { recursive: true, force: true });
      await rm(scripts, { recursive: true, force: true });
    }
  },
);
