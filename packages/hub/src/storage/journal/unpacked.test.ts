import { asError, Fault } from '@rephub/platform';
import { pureLz4 } from '@rephub/platform/sim';
import { Compression, FrameType, RecordEncoder } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import { Unpacked } from './unpacked.js';

const MIB = 1024 * 1024;

function frameOf(raw: Buffer): Buffer {
  const stored = pureLz4.compress(raw);
  const encoder = new RecordEncoder(Buffer.alloc(16), 1, 0);
  const packed = { compression: Compression.lz4, slices: [stored], bytes: stored.length };
  encoder.encode(FrameType.Write, 0, 0, 0, raw.length, 1, 0, [raw], packed);
  return Buffer.concat([encoder.head, stored, encoder.tail]);
}

/** A disk that counts what is read of it, and how much of that at once. */
class Disk {
  reads = 0;
  mostAtOnce = 0;
  #now = 0;

  reading(content: Buffer): (frame: Buffer) => Promise<void> {
    return async (frame) => {
      this.reads += 1;
      this.#now += 1;
      this.mostAtOnce = Math.max(this.mostAtOnce, this.#now);
      await new Promise<void>((resolve) => setImmediate(resolve));
      this.#now -= 1;
      content.copy(frame);
    };
  }
}

function copy(
  unpacked: Unpacked,
  disk: Disk,
  position: number,
  frame: Buffer,
  raw: number,
  to: Buffer,
  offset: number,
) {
  return unpacked.copy(position, frame.length, raw, disk.reading(frame), to, offset);
}

describe('unpacked', () => {
  it('parts of one record that are asked for together cost one read', async () => {
    const raw = Buffer.alloc(256 * 1024, 'part of a record, ');
    const frame = frameOf(raw);
    const disk = new Disk();
    const unpacked = new Unpacked([pureLz4]);
    const parts = Array.from({ length: 64 }, (_, at) => ({ at: at * 4096, bytes: Buffer.alloc(4096) }));
    await Promise.all(parts.map(({ at, bytes }) => copy(unpacked, disk, 7, frame, raw.length, bytes, at)));
    for (const { at, bytes } of parts) expect(bytes.equals(raw.subarray(at, at + 4096))).toBe(true);
    await copy(unpacked, disk, 7, frame, raw.length, Buffer.alloc(9), 3);
    expect(disk.reads).toBe(1);
  });

  it('bounds what is loaded at once, and what is kept', async () => {
    const raw = Buffer.alloc(3 * MIB, 'x');
    const frame = frameOf(raw);
    const disk = new Disk();
    const unpacked = new Unpacked([pureLz4]);
    const to = Buffer.alloc(10);
    await Promise.all(Array.from({ length: 40 }, (_, at) => copy(unpacked, disk, at, frame, raw.length, to, 5)));
    expect(disk.mostAtOnce).toBe(5);
    expect(disk.reads).toBe(40);
    // Only the last one fits what is kept.
    await copy(unpacked, disk, 39, frame, raw.length, to, 5);
    expect(disk.reads).toBe(40);
    await copy(unpacked, disk, 3, frame, raw.length, to, 5);
    expect(disk.reads).toBe(41);
  });

  it('one that is larger than all bounds is loaded by itself and not kept', async () => {
    const raw = Buffer.alloc(20 * MIB, 'y');
    const frame = frameOf(raw);
    const disk = new Disk();
    const unpacked = new Unpacked([pureLz4]);
    const to = Buffer.alloc(10);
    await Promise.all([1, 2, 3].map((at) => copy(unpacked, disk, at, frame, raw.length, to, raw.length - 10)));
    expect([disk.mostAtOnce, disk.reads]).toEqual([1, 3]);
    await copy(unpacked, disk, 3, frame, raw.length, to, 0);
    expect(disk.reads).toBe(4);
  });

  it('what is not what was received is never handed out, and asked for anew', async () => {
    const raw = Buffer.alloc(10_000, 'z');
    const frame = frameOf(raw);
    const unpacked = new Unpacked([pureLz4]);
    const disk = new Disk();
    const to = Buffer.alloc(10);
    for (const at of [0, 30, 84, 90, frame.length - 1]) {
      const bad = Buffer.from(frame);
      bad[at] = (bad[at] ?? 0) ^ 4;
      await expect(copy(unpacked, disk, 1, bad, raw.length, to, 0)).rejects.toMatchObject({ code: 'journal-packed' });
    }
    await expect(copy(unpacked, disk, 2, frame, raw.length + 1, to, 0)).rejects.toMatchObject({
      code: 'journal-packed',
    });
    await expect(copy(new Unpacked([]), disk, 3, frame, raw.length, to, 0)).rejects.toMatchObject({
      code: 'payload-codec',
    });
    const broken = unpacked.copy(1, frame.length, raw.length, () => Promise.reject(asError('EIO')), to, 0);
    await expect(broken).rejects.not.toBeInstanceOf(Fault);
    await copy(unpacked, disk, 1, frame, raw.length, to, 0);
    expect(to.toString()).toBe('zzzzzzzzzz');
  });
});
