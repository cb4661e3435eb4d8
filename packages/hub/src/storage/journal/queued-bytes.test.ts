import { CountedSlab } from '@rephub/platform';
import { expect, test } from 'vitest';
import { BLOCK_BYTES } from '../pooled-blocks.js';
import { QueuedBytes } from './queued-bytes.js';

function slab(bytes: number): CountedSlab {
  const made = new CountedSlab(bytes, ({ memory }) => memory.fill(0xee));
  for (let at = 0; at < bytes; at += 1) made.memory[at] = at % 251;
  return made;
}

test('counted memory is held until the write is over, and shown in one piece where it was received in one', () => {
  const received = slab(10_000);
  const whole = Buffer.from(received.memory);
  const queued = new QueuedBytes();
  queued.add(received.memory.subarray(100, 3_000));
  queued.add(received.memory.subarray(3_000, 3_001));
  queued.add(received.memory.subarray(3_001, 10_000));
  expect(received.holds).toBe(2);
  received.release();
  expect(queued.slices().map(({ length }) => length)).toEqual([9_900]);
  expect(Buffer.concat(queued.slices())).toEqual(whole.subarray(100));
  queued.release();
  expect(received.holds).toBe(0);
});

test('what is between two records, or in other memory, keeps them apart', () => {
  const [one, two] = [slab(1_000), slab(1_000)];
  const queued = new QueuedBytes();
  queued.add(one.memory.subarray(0, 300));
  queued.add(one.memory.subarray(400, 500));
  queued.add(two.memory.subarray(500, 600));
  expect(queued.slices().map(({ length }) => length)).toEqual([300, 100, 100]);
  expect([one.holds, two.holds]).toEqual([3, 2]);
  queued.release();
  expect([one.holds, two.holds]).toEqual([1, 1]);
});

test('memory that is not counted is copied: it may be used again at once', () => {
  const queued = new QueuedBytes();
  const scratch = Buffer.alloc(2 * BLOCK_BYTES + 7);
  const wanted: Buffer[] = [];
  for (const [turn, length] of [88, scratch.length, 8].entries()) {
    const bytes = scratch.subarray(0, length).fill(turn + 1);
    wanted.push(Buffer.from(bytes));
    queued.add(bytes);
    scratch.fill(0xee);
  }
  const received = slab(500);
  queued.add(received.memory);
  wanted.push(Buffer.from(received.memory));
  expect(Buffer.concat(queued.slices()).equals(Buffer.concat(wanted))).toBe(true);
  queued.release();
  expect(queued.slices()).toEqual([]);
});
