/** A fixed handful of seeds, and what makes a seed worth something: that it gives the same run again, and that bugs would be seen. */
import { describe, expect, it } from 'vitest';
import { MUTANTS } from './mutants/list.js';
import { PROFILES } from './profiles.js';
import { CHECKED } from './promises/index.js';
import { runScript } from './run.js';
import { scriptOf } from './script.js';
import { simulate } from './simulate.js';

/** One run takes a second or two alone on a machine; on a busy one it may take long. */
const LIMIT_MS = 240_000;

describe('the simulator', () => {
  it.each(['5..3', '5', '3..'])('refuses --seeds %s, which would run nothing', async (seeds) => {
    const rest = { seed: undefined, time: undefined, from: undefined, script: undefined, profile: undefined };
    await expect(simulate({ seeds, ...rest, trace: false, shrink: false }, () => undefined)).rejects.toMatchObject({
      kind: 'config',
      message: `--seeds: "${seeds}" is not allowed, expected A..B, A at most B`,
    });
  });

  it.each([1, 2, 3, 4, 5])('keeps every promise in seed %i', { timeout: LIMIT_MS }, async (seed) => {
    const { violation, error, coverage } = await runScript(scriptOf(seed));
    expect(error).toBeNull();
    expect(violation?.message ?? null).toBeNull();
    expect(coverage.requests).toBeGreaterThanOrEqual(1000);
    expect(coverage.crashes).toBeGreaterThanOrEqual(1);
  });

  // The checkers once called wrong what was right there.
  it.each([
    ['rotting-while-running', 20_111],
    ['killed-while-away', 20_123],
  ] as const)('keeps every promise in profile %s, seed %i', { timeout: LIMIT_MS }, async (profile, seed) => {
    const { violation, error } = await runScript(scriptOf(seed, PROFILES[profile]));
    expect(error).toBeNull();
    expect(violation?.message ?? null).toBeNull();
  });

  it('runs the same seed to the same trace, byte for byte', { timeout: LIMIT_MS }, async () => {
    const lines: string[][] = [[], []];
    for (const trace of lines) await runScript(scriptOf(7), (line) => trace.push(line));
    expect(lines[0]?.length).toBeGreaterThan(1000);
    expect(lines[1]).toEqual(lines[0]);
  });

  it('has a planted bug for every promise that it says it checks', () => {
    expect(CHECKED.filter((id) => !MUTANTS.some(({ promise }) => promise === id))).toEqual([]);
  });
});
