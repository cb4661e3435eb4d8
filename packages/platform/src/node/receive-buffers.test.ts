import { describe, expect, it } from 'vitest';
import { holdSlice, releaseSlice } from '../counted-memory.js';
import { heldSlabBytes, LARGEST_SLAB_BYTES, ReceiveBuffers, SMALLEST_SLAB_BYTES } from './receive-buffers.js';

describe('ReceiveBuffers', () => {
  it('hands out the same counted memory again and again while nobody holds it', () => {
    const buffers = new ReceiveBuffers();
    buffers.count();
    const first = buffers.next();
    buffers.took(first, 100);
    expect(buffers.next()).toBe(first);
    buffers.took(first, first.length);
    const larger = buffers.next();
    expect(larger.length).toBeGreaterThan(first.length);
    buffers.took(larger, 10);
    expect(buffers.next()).toBe(larger);
    buffers.release();
  });

  it('hands a counted slab out again once nobody holds it, and what somebody holds never', () => {
    const buffers = new ReceiveBuffers();
    const before = buffers.next();
    buffers.took(before, 10);
    buffers.count();
    const kept = new Map<Buffer, number>();
    for (let round = 0; round < 5000; round += 1) {
      const part = buffers.next();
      expect(part.buffer).not.toBe(before.buffer);
      const count = Math.min(part.length, 1 + ((round * 7919) % 100_000));
      const chunk = part.subarray(0, count);
      chunk.fill(round % 251);
      buffers.took(part, count);
      if (round % 3 !== 0) continue;
      holdSlice(chunk);
      kept.set(chunk, round % 251);
      if (kept.size < 20) continue;
      const [oldest] = kept;
      if (oldest === undefined) continue;
      expect(oldest[0].every((byte) => byte === oldest[1])).toBe(true);
      kept.delete(oldest[0]);
      releaseSlice(oldest[0]);
    }
    buffers.release();
  });

  it('never hands the same byte out twice', () => {
    const buffers = new ReceiveBuffers();
    const taken = new Map<ArrayBufferLike, number>();
    for (let round = 0; round < 5000; round += 1) {
      const part = buffers.next();
      expect(part.length).toBeGreaterThanOrEqual(SMALLEST_SLAB_BYTES / 4);
      expect(part.byteOffset).toBeGreaterThanOrEqual(taken.get(part.buffer) ?? 0);
      const count = Math.min(part.length, 1 + ((round * 7919) % 100_000));
      taken.set(part.buffer, part.byteOffset + count);
      buffers.took(part, count);
    }
    buffers.release();
  });

  it('grows while reads fill what they are given, and shrinks when they become small', () => {
    const buffers = new ReceiveBuffers();
    for (let round = 0; round < 8; round += 1) {
      const part = buffers.next();
      buffers.took(part, part.length);
    }
    expect(buffers.next().length).toBe(LARGEST_SLAB_BYTES);
    for (let round = 0; round < 10_000; round += 1) buffers.took(buffers.next(), 1000);
    expect(buffers.next().buffer.byteLength).toBe(SMALLEST_SLAB_BYTES);
    buffers.release();
  });

  it('keeps all connections together within the budget, and gives it back', () => {
    const before = heldSlabBytes();
    const many = Array.from({ length: 400 }, () => new ReceiveBuffers());
    for (const buffers of many) {
      for (let round = 0; round < 8; round += 1) {
        const part = buffers.next();
        buffers.took(part, part.length);
      }
    }
    expect(heldSlabBytes()).toBeLessThanOrEqual(48 << 20);
    for (const buffers of many) expect(buffers.next().length).toBeGreaterThanOrEqual(SMALLEST_SLAB_BYTES / 4);
    for (const buffers of many) buffers.release();
    expect(heldSlabBytes()).toBe(before);
  });
});
