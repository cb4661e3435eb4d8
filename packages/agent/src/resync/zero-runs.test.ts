import { isZeroes, ZEROES } from '@rephub/nbd';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutAtZeroes, sliceRange } from './zero-runs.js';

describe('zero runs', () => {
  it('joins zeroes that are known and zeroes that are found', () => {
    const slices = [ZEROES.subarray(0, 4096), Buffer.alloc(8192), Buffer.alloc(4096, 1)];
    expect(cutAtZeroes(slices, isZeroes)).toEqual([
      { from: 0, to: 12288, zero: true },
      { from: 12288, to: 16384, zero: false },
    ]);
  });

  it('cuts at whole steps, wherever the network has cut', () => {
    const bytes = Buffer.alloc(5 * 4096);
    bytes.fill(1, 4096, 2 * 4096);
    const slices = [bytes.subarray(0, 3000), bytes.subarray(3000, 9001), bytes.subarray(9001)];
    expect(cutAtZeroes(slices, isZeroes)).toEqual([
      { from: 0, to: 4096, zero: true },
      { from: 4096, to: 8192, zero: false },
      { from: 8192, to: 20480, zero: true },
    ]);
  });

  it('is not taken in by zeroes at the ends of a step', () => {
    const step = Buffer.alloc(4096);
    step[2048] = 1;
    expect(cutAtZeroes([step, Buffer.alloc(4096)], () => false)).toEqual([
      { from: 0, to: 4096, zero: false },
      { from: 4096, to: 8192, zero: true },
    ]);
  });

  it('covers every byte once, and says zero only of what is zero', () => {
    const piece = fc.tuple(fc.constantFrom(0, 1), fc.integer({ min: 1, max: 9000 }));
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 8 }), (pieces) => {
        const slices = pieces.map(([value, length]) => Buffer.alloc(length, value));
        const whole = Buffer.concat(slices);
        let at = 0;
        for (const run of cutAtZeroes(slices, isZeroes)) {
          expect(run.from).toBe(at);
          const part = Buffer.concat(sliceRange(slices, run.from, run.to));
          expect(part.equals(whole.subarray(run.from, run.to))).toBe(true);
          if (run.zero) expect(part.equals(Buffer.alloc(part.length))).toBe(true);
          at = run.to;
        }
        expect(at).toBe(whole.length);
      }),
    );
  });
});
