import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { type Piece, Ranges } from './ranges.js';

const SIZE = 60;

/** The set bytes of a stretch, as pieces. */
function piecesOf(bytes: readonly boolean[], from: number, to: number, wanted: boolean): Piece[] {
  const pieces: { offset: number; length: number }[] = [];
  for (let at = from; at < to; at++) {
    if (bytes[at] !== wanted) continue;
    const last = pieces.at(-1);
    if (last !== undefined && last.offset + last.length === at) last.length++;
    else pieces.push({ offset: at, length: 1 });
  }
  return pieces;
}

describe('a set of ranges', () => {
  const seeds = Array.from({ length: 30 }, (_, at) => at + 1);
  it.each(seeds)('seed %i: holds what a bit for each byte would hold', (seed) => {
    const random = new SeededRandomness(seed);
    const ranges = new Ranges();
    const bytes = new Array<boolean>(SIZE).fill(false);
    for (let step = 0; step < 200; step++) {
      const from = random.below(SIZE);
      const to = from + 1 + random.below(SIZE - from);
      const adds = random.chance();
      if (adds) ranges.add(from, to);
      else ranges.remove(from, to);
      bytes.fill(adds, from, to);
      const start = random.below(SIZE);
      const end = start + random.below(SIZE - start + 1);
      expect(ranges.within(start, end)).toEqual(piecesOf(bytes, start, end, true));
      expect(ranges.missing(start, end)).toEqual(piecesOf(bytes, start, end, false));
      expect(ranges.count).toBe(piecesOf(bytes, 0, SIZE, true).length);
      expect(ranges.bytes).toBe(bytes.filter(Boolean).length);
    }
  });
});
