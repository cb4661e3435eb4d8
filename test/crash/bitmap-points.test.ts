/**
 * Promises SUPERSET, CLEAR and NOFULL of the dirty tracking: short scripts, crashed at their 1st, 2nd … n-th I/O,
 * with everything that was not synced kept, lost, torn, garbled or a mixture of these.
 */
import type { CrashFate, SimFiles } from '@rephub/platform/sim';
import { beforeAll, describe, expect, it } from 'vitest';
import { cleanDisk, crashOnce, type Range, type Setting, type Step } from './bitmap-world.js';

const MIB = 1024 * 1024;
const FATES: readonly CrashFate[] = ['lose', 'tear', 'garble', 'mixed', 'keep'];

const setting: Setting = {
  volumes: [
    { index: 0, name: 'disk0', sizeBytes: 200 * MIB },
    { index: 7, name: 'disk7', sizeBytes: 33 * MIB + 512 },
  ],
  granularityBytes: 64 * 1024,
  hotExtents: 16,
};

const at = (extent: number, volume = 0): Range => ({ volume, offset: extent * 4 * MIB + 3 * 65_536, length: 9000 });
const extents = (from: number, to: number): Range[] =>
  Array.from({ length: to - from }, (_, index) => at(from + index));

const SCRIPTS: Readonly<Record<string, readonly Step[]>> = {
  'streamed writes, proven and cooled': [
    { do: 'write', ranges: [at(0), at(1, 7)], kind: 'record' },
    { do: 'write', ranges: [at(0)], kind: 'record' },
    { do: 'prove', hub: true, flush: true },
    { do: 'cool' },
    { do: 'write', ranges: [at(3)], kind: 'record' },
  ],
  'more extents than slots while the hub is away': [
    { do: 'write', ranges: extents(0, 12), kind: 'record' },
    { do: 'write', ranges: extents(12, 30), kind: 'mark' },
    { do: 'write', ranges: extents(2, 20), kind: 'record' },
    { do: 'prove', hub: true, flush: false },
    { do: 'write', ranges: extents(30, 46), kind: 'record' },
    { do: 'prove', hub: true, flush: true },
    { do: 'write', ranges: extents(0, 16), kind: 'record' },
  ],
  'a gap, its resync and a write into what is being copied': [
    { do: 'write', ranges: extents(0, 6), kind: 'mark' },
    { do: 'cool' },
    { do: 'copy', count: 3, then: 'wait' },
    { do: 'write', ranges: [at(1)], kind: 'mark' },
    { do: 'copy', count: 1, then: 'number' },
    { do: 'prove', hub: true, flush: true },
    { do: 'wait' },
    { do: 'copy', count: 9, then: 'number' },
    { do: 'prove', hub: true, flush: true },
    { do: 'cool' },
  ],
  'a range larger than the slots, then lost records': [
    { do: 'write', ranges: [{ volume: 0, offset: 5 * MIB, length: 150 * MIB }], kind: 'stay' },
    { do: 'write', ranges: [at(0)], kind: 'record' },
    { do: 'end' },
    { do: 'lose-records' },
    { do: 'cool' },
    { do: 'write', ranges: [{ volume: 0, offset: 0, length: 200 * MIB }], kind: 'record' },
    { do: 'prove', hub: true, flush: true },
    { do: 'wait' },
  ],
  'orderly stops, with and without marks, and a kill': [
    { do: 'write', ranges: extents(0, 3), kind: 'record' },
    { do: 'prove', hub: true, flush: true },
    { do: 'restart', clean: true },
    { do: 'write', ranges: extents(2, 5), kind: 'mark' },
    { do: 'restart', clean: true },
    { do: 'copy', count: 2, then: 'number' },
    { do: 'prove', hub: true, flush: true },
    { do: 'note' },
    { do: 'write', ranges: [at(9)], kind: 'stay' },
    { do: 'restart', clean: false },
    { do: 'write', ranges: [at(20)], kind: 'record' },
  ],
  'two volumes, of which one is never flushed: what is proven of the other goes': [
    { do: 'write', ranges: [at(0), at(1, 7), at(2, 7)], kind: 'record' },
    { do: 'prove', hub: true, flush: true, volume: 0 },
    { do: 'cool' },
    { do: 'write', ranges: [at(3), at(1, 7)], kind: 'mark' },
    { do: 'copy', count: 2, then: 'number' },
    { do: 'prove', hub: true, flush: true, volume: 0 },
    { do: 'cool' },
    { do: 'write', ranges: [at(4)], kind: 'record' },
  ],
  'everything marked, then copied': [
    { do: 'write', ranges: [at(4)], kind: 'record' },
    { do: 'mark-all' },
    { do: 'copy', count: 240, then: 'number' },
    { do: 'prove', hub: true, flush: true },
    { do: 'cool' },
  ],
};

describe('the tracker after a crash at any I/O', () => {
  let disk: SimFiles;
  beforeAll(async () => {
    disk = await cleanDisk(setting);
  });

  for (const [name, steps] of Object.entries(SCRIPTS)) {
    it(`SUPERSET, CLEAR, NOFULL: ${name}`, { timeout: 60_000 }, async () => {
      let points = 0;
      for (const fate of FATES) {
        for (let point = 1; ; point += 1) {
          const plan = { setting, disk, steps, point, fate, seed: point };
          const wasCut = await crashOnce(plan).catch((thrown: unknown) => {
            throw new Error(`crash at I/O ${point}, unsynced: ${fate}`, { cause: thrown });
          });
          points += 1;
          if (!wasCut) break;
        }
      }
      expect(points).toBeGreaterThan(FATES.length * 10);
    });
  }
});
