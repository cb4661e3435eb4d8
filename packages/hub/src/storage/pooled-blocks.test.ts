import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PooledBlocks } from './pooled-blocks.js';

describe('pooled blocks', () => {
  it('holds a copy of all that was added, in order, while other batches come and go', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 600_000 }), { maxLength: 6 });
    fc.assert(
      fc.property(fc.array(sizes, { minLength: 1, maxLength: 4 }), (batches) => {
        const open: { memory: PooledBlocks; expected: Buffer }[] = [];
        for (const [at, lengths] of batches.entries()) {
          const memory = new PooledBlocks();
          const parts = lengths.map((length, index) => Buffer.alloc(length, `${at}.${index};`));
          for (const part of parts) memory.add(part);
          const expected = Buffer.concat(parts);
          for (const part of parts) part.fill(0);
          open.push({ memory, expected });
          if (at % 2 === 1) open.shift()?.memory.release();
        }
        for (const { memory, expected } of open) {
          expect(Buffer.concat(memory.slices()).equals(expected)).toBe(true);
          memory.release();
        }
      }),
      { numRuns: 30 },
    );
  });

  it('uses the memory of a batch that was released again', () => {
    const first = new PooledBlocks();
    first.add(Buffer.alloc(10, 1));
    const memory = first.slices()[0]?.buffer;
    first.release();
    const second = new PooledBlocks();
    second.add(Buffer.alloc(10, 2));
    expect(second.slices()[0]?.buffer).toBe(memory);
    second.release();
  });

  it('gives out room piece after piece, never more than is wanted, never the same twice', () => {
    const blocks = new PooledBlocks();
    const seen: Buffer[] = [];
    for (let missing = 600_000; missing > 0; missing -= seen.at(-1)?.length ?? 0) seen.push(blocks.next(missing));
    for (const [at, room] of seen.entries()) room.fill(at + 1);
    expect(Buffer.concat(blocks.slices()).equals(Buffer.concat(seen))).toBe(true);
    expect(seen.reduce((sum, { length }) => sum + length, 0)).toBe(600_000);
    for (const [at, room] of seen.entries()) expect(room.every((byte) => byte === at + 1)).toBe(true);
    blocks.release();
  });
});
