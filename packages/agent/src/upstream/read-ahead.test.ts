import { BlockRequest, Command, flushDevice, NbdError, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { ReadAhead, readAhead } from './read-ahead.js';

const KIB = 1024;
const SIZE = 256 * KIB;
const data = (fill: number, length = 4 * KIB): Buffer => Buffer.alloc(length, fill);

async function setUp(limitBytes = 16 * KIB) {
  const device = new ScriptedDevice(SIZE);
  for (let at = 0; at < SIZE; at += 4 * KIB) await writeBytes(device, at, data(at / (4 * KIB) + 1));
  device.seen.length = 0;
  return { device, ahead: new ReadAhead(device, limitBytes) };
}

const reads = (device: ScriptedDevice): number => device.seen.filter((command) => command === Command.Read).length;

describe('read-ahead', () => {
  it('answers every other sequential read from what was read before', async () => {
    const { device, ahead } = await setUp();
    for (let at = 0; at < 64; at++) {
      expect((await readBytes(ahead, at * 4 * KIB, 4 * KIB)).equals(data(at + 1))).toBe(true);
    }
    expect(reads(device)).toBeLessThanOrEqual(34);
  });

  it('leaves random and large reads alone', async () => {
    const { device, ahead } = await setUp(4 * KIB);
    for (const at of [5, 1, 9, 3]) await readBytes(ahead, at * 4 * KIB, 4 * KIB);
    await readBytes(ahead, 0, 8 * KIB);
    await readBytes(ahead, 8 * KIB, 8 * KIB);
    expect(ahead.heldBytes).toBe(0);
    expect(reads(device)).toBe(6);
  });

  it.each<[string, (ahead: ReadAhead) => Promise<void>, number]>([
    ['a write', (ahead) => writeBytes(ahead, 10 * KIB, data(99, KIB)), 99],
    ['a zeroing', (ahead) => zeroRange(ahead, 10 * KIB, KIB), 0],
    ['a trim', (ahead) => trimRange(ahead, 10 * KIB, KIB), 0],
  ])('forgets what %s touches', async (_what, change, fill) => {
    const { ahead } = await setUp();
    await readBytes(ahead, 0, 4 * KIB);
    await readBytes(ahead, 4 * KIB, 4 * KIB);
    expect(ahead.heldBytes).toBe(4 * KIB);
    await change(ahead);
    expect(ahead.heldBytes).toBe(0);
    expect((await readBytes(ahead, 8 * KIB, 4 * KIB)).subarray(2 * KIB, 3 * KIB).equals(data(fill, KIB))).toBe(true);
  });

  it('forgets what was being read while a write touched it', async () => {
    const { device, ahead } = await setUp();
    await readBytes(ahead, 0, 4 * KIB);
    device.holding = true;
    const reading = readBytes(ahead, 4 * KIB, 4 * KIB);
    const writing = writeBytes(ahead, 8 * KIB, data(99));
    device.letGo();
    await Promise.all([reading, writing]);
    expect(ahead.heldBytes).toBe(0);
    expect((await readBytes(ahead, 8 * KIB, 4 * KIB)).equals(data(99))).toBe(true);
  });

  it('forgets everything with a flush', async () => {
    const { ahead } = await setUp();
    await readBytes(ahead, 0, 4 * KIB);
    await readBytes(ahead, 4 * KIB, 4 * KIB);
    await flushDevice(ahead);
    expect(ahead.heldBytes).toBe(0);
  });

  it('does not fail a read for what nobody asked for', async () => {
    const { device, ahead } = await setUp();
    device.fail(Command.Read, NbdError.Eio, Infinity, 8 * KIB, 12 * KIB);
    await readBytes(ahead, 0, 4 * KIB);
    expect((await readBytes(ahead, 4 * KIB, 4 * KIB)).equals(data(2))).toBe(true);
    await expect(readBytes(ahead, 8 * KIB, 4 * KIB)).rejects.toMatchObject({ nbdError: NbdError.Eio });
  });

  it('stops at the end of the disk', async () => {
    const { ahead } = await setUp();
    await readBytes(ahead, SIZE - 8 * KIB, 4 * KIB);
    expect((await readBytes(ahead, SIZE - 4 * KIB, 4 * KIB)).equals(data(64))).toBe(true);
  });

  it('is not there at all with 0 bytes', async () => {
    const { device } = await setUp();
    expect(readAhead(device, 0)).toBe(device);
  });

  it.each([1, 2, 3, 4, 5, 6])('random work, seed %i: reads see what was written before them', async (seed) => {
    const random = new SeededRandomness(seed);
    const { device, ahead } = await setUp();
    const model = await readBytes(device, 0, SIZE);
    let at = 0;
    for (let turn = 0; turn < 2000; turn++) {
      if (random.chance(0.1)) at = random.below(SIZE / KIB - 8) * KIB;
      const length = random.chance(0.8) ? 4 * KIB : (1 + random.below(8)) * KIB;
      if (random.chance(0.7)) {
        if (at + length > SIZE) at = 0;
        const seen = await readBytes(ahead, at, length);
        expect(seen.equals(model.subarray(at, at + length)), `seed ${seed}, turn ${turn}`).toBe(true);
        at += length;
      } else {
        const to = Math.min(SIZE - length, Math.max(0, at + (random.below(9) - 4) * KIB));
        const fill = random.below(256);
        await writeBytes(ahead, to, data(fill, length));
        model.fill(fill, to, to + length);
      }
    }
  });

  it('passes on what it does not know', async () => {
    const { ahead, device } = await setUp();
    await new Promise((resolve) => {
      const request = new BlockRequest({ completed: resolve });
      request.command = Command.Cache;
      request.length = 4 * KIB;
      ahead.submit(request);
    });
    expect(device.seen).toEqual([Command.Cache]);
  });
});
