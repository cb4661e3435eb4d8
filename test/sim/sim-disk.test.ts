import { flushDevice, NbdError, writeBytes } from '@rephub/nbd';
import { SeededRandomness, SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { BLOCK_BYTES } from './block-content.js';
import { SimDisk } from './sim-disk.js';

const BLOCKS = 16;

async function settled<T>(clock: SimClock, work: Promise<T>): Promise<T> {
  let isOver = false;
  const watched = work.finally(() => {
    isOver = true;
  });
  watched.catch(() => undefined);
  await clock.runUntil(() => isOver);
  return await watched;
}

describe('the disk behind the simulated upstream', () => {
  it('owes nobody what a failed write has left in part', async () => {
    const clock = new SimClock();
    const disk = new SimDisk(clock, new SeededRandomness(5), BLOCKS * BLOCK_BYTES, {});
    await settled(clock, writeBytes(disk, 0, Buffer.alloc(BLOCK_BYTES, 1)));
    disk.fail('no-space', 8 * BLOCK_BYTES, 12 * BLOCK_BYTES, 1, () => undefined);
    const failing = writeBytes(disk, 8 * BLOCK_BYTES, Buffer.alloc(4 * BLOCK_BYTES, 2));
    await expect(settled(clock, failing)).rejects.toMatchObject({ nbdError: NbdError.Enospc });
    // A part of it is there, and may be lost like anything else.
    expect(disk.bytes[8 * BLOCK_BYTES]).toBe(2);
    expect(disk.isUnflushed(8)).toBe(true);
    expect(disk.crash('lose')).toBe(true);
    expect(disk.bytes[8 * BLOCK_BYTES]).toBe(0);
    expect(disk.unflushedThen.map(({ offset, length }) => [offset, length])).toEqual([[0, BLOCK_BYTES]]);
  });

  it('has nothing to lose of a write with FUA, whatever lay there before', async () => {
    const clock = new SimClock();
    const disk = new SimDisk(clock, new SeededRandomness(7), BLOCKS * BLOCK_BYTES, {});
    await settled(clock, writeBytes(disk, 0, Buffer.alloc(BLOCK_BYTES, 1)));
    await settled(clock, flushDevice(disk));
    await settled(clock, writeBytes(disk, 0, Buffer.alloc(BLOCK_BYTES, 2), true));
    expect(disk.isUnflushed(0)).toBe(false);
    expect(disk.crash('lose')).toBe(false);
    expect(disk.unflushedThen).toEqual([]);
    expect(disk.bytes[0]).toBe(2);
  });

  it('keeps what was flushed before a crash', async () => {
    const clock = new SimClock();
    const disk = new SimDisk(clock, new SeededRandomness(6), BLOCKS * BLOCK_BYTES, {});
    await settled(clock, writeBytes(disk, 0, Buffer.alloc(BLOCK_BYTES, 1)));
    await settled(clock, flushDevice(disk));
    expect(disk.crash('lose')).toBe(false);
    expect(disk.unflushedThen).toEqual([]);
    expect(disk.bytes[0]).toBe(1);
  });
});
