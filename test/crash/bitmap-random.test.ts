/**
 * Promises SUPERSET, CLEAR and NOFULL of the dirty tracking under random scripts, each crashed at a random I/O,
 * half of them again while the next process opens the state.
 */
import { type CrashFate, SeededRandomness, type SimFiles } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { cleanDisk, crashOnce, type Range, type Setting, type Step } from './bitmap-world.js';

const MIB = 1024 * 1024;
const RUNS = Number(process.env['RUNS'] ?? 400);
const FATES: readonly CrashFate[] = ['lose', 'tear', 'garble', 'mixed', 'mixed', 'keep'];
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);

/** Coarse and fine; at 4 KiB extents lie across pages. */
const SETTINGS: readonly Setting[] = [
  {
    volumes: [
      { index: 0, name: 'a', sizeBytes: 160 * MIB },
      { index: 1, name: 'b', sizeBytes: 50 * MIB + 4608 },
    ],
    granularityBytes: 64 * 1024,
    hotExtents: 16,
  },
  { volumes: [{ index: 254, name: 'fine', sizeBytes: 140 * MIB }], granularityBytes: 4096, hotExtents: 17 },
  { volumes: [{ index: 2, name: 'coarse', sizeBytes: 300 * MIB }], granularityBytes: MIB, hotExtents: 20 },
];

function randomRange(random: SeededRandomness, setting: Setting): Range {
  const { index, sizeBytes } = setting.volumes[random.below(setting.volumes.length)]!;
  const isLarge = random.chance(0.03);
  const length = 1 + random.below(isLarge ? sizeBytes : random.chance(0.2) ? 9 * MIB : 70_000);
  // Every fourth write goes to the same few extents.
  const offset = random.below(random.chance(0.25) ? 8 * MIB : sizeBytes);
  return { volume: index, offset, length: Math.min(length, sizeBytes - offset) };
}

function randomSteps(random: SeededRandomness, setting: Setting): Step[] {
  return Array.from({ length: 3 + random.below(25) }, (): Step => {
    const draw = random.below(100);
    const ranges = (most: number): Range[] =>
      Array.from({ length: 1 + random.below(most) }, () => randomRange(random, setting));
    if (draw < 25) return { do: 'write', ranges: ranges(20), kind: 'record' };
    if (draw < 45) return { do: 'write', ranges: ranges(20), kind: 'mark' };
    if (draw < 50) return { do: 'write', ranges: ranges(2), kind: 'stay' };
    if (draw < 55) return { do: 'end' };
    if (draw < 70) {
      const then = (['number', 'number', 'wait', 'put-back'] as const)[random.below(4)]!;
      return { do: 'copy', count: 1 + random.below(40), then };
    }
    if (draw < 84) {
      const behind = random.chance() ? 0 : random.below(20);
      const { index } = setting.volumes[random.below(setting.volumes.length)]!;
      const one = random.chance(0.3) ? { volume: index } : {};
      return { do: 'prove', hub: random.chance(0.8), flush: random.chance(0.8), behind, ...one };
    }
    if (draw < 88) return { do: 'cool' };
    if (draw < 91) return { do: 'wait' };
    if (draw < 93) return { do: 'note' };
    if (draw < 95) return { do: 'lose-records' };
    if (draw < 96) return { do: 'mark-all' };
    return { do: 'restart', clean: random.chance() };
  });
}

it(`SUPERSET, CLEAR, NOFULL: random scripts crashed at random I/O (seed ${seed})`, { timeout: 120_000 }, async () => {
  const disks: SimFiles[] = [];
  for (const setting of SETTINGS) disks.push(await cleanDisk(setting));
  let cut = 0;
  for (let run = 0; run < RUNS; run += 1) {
    const random = new SeededRandomness(seed + run);
    const which = random.below(SETTINGS.length);
    const [setting, disk] = [SETTINGS[which]!, disks[which]!];
    const plan = {
      setting,
      disk,
      steps: randomSteps(random, setting),
      point: 1 + random.below(random.chance() ? 30 : 200),
      fate: FATES[random.below(FATES.length)]!,
      seed: run,
      ...(random.chance() ? { secondPoint: 1 + random.below(12) } : {}),
    };
    const wasCut = await crashOnce(plan).catch((thrown: unknown) => {
      throw new Error(`SEED=${seed}, run ${run}, crash at I/O ${plan.point}, unsynced: ${plan.fate}`, {
        cause: thrown,
      });
    });
    if (wasCut) cut += 1;
  }
  expect(cut).toBeGreaterThan(RUNS / 3);
});
