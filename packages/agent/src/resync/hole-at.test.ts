import { type BlockDevice, type BlockRequest, Command, memoryDevice } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { holeAt, HoleFinder } from './hole-at.js';

const DATA = 0;
const HOLE = 3;

/** Tells the extents given, at most `mostRuns` in one answer, and counts the questions. */
function mapped(extents: readonly (readonly [number, number])[], mostRuns = Infinity) {
  const sizeBytes = extents.reduce((sum, [bytes]) => sum + bytes, 0);
  const memory = memoryDevice(sizeBytes);
  const questions: { readonly offset: number; readonly length: number }[] = [];
  const device: BlockDevice = {
    ...memory,
    sizeBytes,
    abilities: { ...memory.abilities, contexts: ['base:allocation'] },
    submit: (request: BlockRequest) => {
      expect(request.command).toBe(Command.BlockStatus);
      const { offset, length } = request;
      questions.push({ offset, length });
      const runs: number[] = [];
      let at = 0;
      for (const [bytes, flags] of extents) {
        const part = Math.min(at + bytes, offset + length) - Math.max(at, offset);
        if (part > 0 && runs.length < mostRuns * 2) runs.push(part, flags);
        at += bytes;
      }
      request.extents = [{ runs }];
      request.complete(0);
    },
  };
  return { device, questions };
}

describe('a hole', () => {
  it('ends where data begins, however the answer is cut', async () => {
    const extents = [
      [4096, HOLE],
      [8192, HOLE],
      [4096, DATA],
      [4096, HOLE],
    ] as const;
    for (const mostRuns of [1, 2, Infinity]) {
      const { device } = mapped(extents, mostRuns);
      expect(await holeAt(device, 0, 20480)).toBe(12288);
      expect(await holeAt(device, 4096, 4096)).toBe(4096);
      expect(await holeAt(device, 12288, 8192)).toBe(0);
      expect(await holeAt(device, 16384, 4096)).toBe(4096);
    }
  });

  it('is none where the device tells nothing', async () => {
    const { device } = mapped([[4096, HOLE]]);
    const mute = { ...device, sizeBytes: 4096, abilities: { ...device.abilities, contexts: [] } };
    expect(await holeAt(mute, 0, 4096)).toBe(0);
  });
});

describe('a walk over a device', () => {
  it('asks once for each stretch of data that it is told of', async () => {
    const { device, questions } = mapped([
      [65536, DATA],
      [8192, HOLE],
      [4096, DATA],
    ]);
    const holes = new HoleFinder(device);
    for (let at = 0; at < 65536; at += 4096) expect(await holes.holeAt(at, 77824 - at)).toBe(0);
    expect(questions).toEqual([{ offset: 0, length: 77824 }]);
    expect(await holes.holeAt(65536, 12288)).toBe(8192);
    expect(await holes.holeAt(73728, 4096)).toBe(0);
    expect(questions.length).toBe(3);
  });

  it('knows no more of data than it asked about', async () => {
    const { device, questions } = mapped([
      [8192, DATA],
      [8192, HOLE],
    ]);
    const holes = new HoleFinder(device);
    expect(await holes.holeAt(0, 4096)).toBe(0);
    expect(await holes.holeAt(4096, 4096)).toBe(0);
    expect(await holes.holeAt(8192, 8192)).toBe(8192);
    expect(questions.length).toBe(3);
  });
});
