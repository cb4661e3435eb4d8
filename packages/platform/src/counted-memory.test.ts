import { describe, expect, it } from 'vitest';
import { CountedSlab, holdBytes, holdSlice, releaseBytes, releaseSlice, SlabPool } from './counted-memory.js';

describe('counted memory', () => {
  it('is given back when the last slice of it is released, not before', () => {
    let unheld = 0;
    const slab = new CountedSlab(100, () => unheld++);
    const one = slab.memory.subarray(0, 50);
    const other = slab.memory.subarray(50);
    holdBytes([one, other]);
    slab.release();
    releaseSlice(one);
    expect(unheld).toBe(0);
    releaseSlice(other);
    expect(unheld).toBe(1);
  });

  it('does not mind memory that is not counted', () => {
    const plain = Buffer.alloc(10);
    holdSlice(plain);
    releaseBytes([plain, plain]);
    expect(plain.length).toBe(10);
  });

  it('notices that somebody releases what he does not hold', () => {
    const slab = new CountedSlab(10, () => undefined);
    slab.release();
    expect(() => slab.release()).toThrow('nobody holds');
  });
});

describe('SlabPool', () => {
  it('hands the memory out again that nobody holds, and only that', () => {
    const pool = new SlabPool();
    const first = pool.take(4096);
    holdSlice(first.memory);
    first.release();
    const second = pool.take(4096);
    expect(second.memory).not.toBe(first.memory);
    releaseSlice(first.memory);
    const third = pool.take(4096);
    expect(third).toBe(first);
    expect(third.holds).toBe(1);
    expect(pool.take(8192).memory.length).toBe(8192);
  });

  it('keeps no more than it may', () => {
    const pool = new SlabPool(10_000);
    const slabs = [pool.take(4096), pool.take(4096), pool.take(4096)];
    for (const slab of slabs) slab.release();
    expect(pool.freeBytes).toBe(8192);
  });
});
