import { describe, expect, it } from 'vitest';
import { CountedSlab } from '../counted-memory.js';
import { SendQueue } from './send-queue.js';

describe('SendQueue', () => {
  it('holds counted memory that goes by reference until its write is done', () => {
    const slab = new CountedSlab(64 * 1024, () => undefined);
    const queue = new SendQueue();
    queue.add(slab.memory.subarray(0, 32 * 1024));
    queue.add(slab.memory.subarray(32 * 1024));
    queue.add(slab.memory.subarray(0, 100));
    // Small ones are copied at once.
    expect(slab.holds).toBe(3);
    const first = queue.take(32 * 1024);
    SendQueue.done(first);
    expect(slab.holds).toBe(2);
    const rest = queue.take(1024 * 1024);
    expect(Buffer.concat(rest.pieces).length).toBe(32 * 1024 + 100);
    expect(slab.holds).toBe(2);
    SendQueue.done(rest);
    expect(slab.holds).toBe(1);
  });
});
