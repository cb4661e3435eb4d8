import { BlockRequest, NbdError } from '@rephub/nbd';
import { releaseBytes } from '@rephub/platform';
import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import type { BaseImage } from '../base/base-image.js';
import { Place } from '../index/extent-leaf.js';
import { RunList } from '../index/run-list.js';
import type { JournalReader } from '../journal/journal-reader.js';
import { ReadAssembly } from './read-assembly.js';
import { readRuns } from './read-runs.js';

const KIB = 1024;
/** Journal segments of this length: no read crosses their ends. */
const SEGMENT = 1024 * KIB;

interface Run {
  readonly length: number;
  readonly place: number;
}

/** Bytes by position, of the journal and of the image. */
const journalByte = (position: number): number => 1 + (position % 127);
const imageByte = (position: number): number => 128 + (position % 127);

/** What a request is answered, and how often and how much was read for it. */
async function answered(
  start: number,
  found: readonly Run[],
  imageFails = false,
): Promise<{ bytes: Buffer; error: number; reads: number; readBytes: number; request: BlockRequest }> {
  const runs = new RunList();
  let at = start;
  for (const { length, place } of found) runs.push(at, (at += length), place);
  let reads = 0;
  let readBytes = 0;
  const fill = async (buffer: Uint8Array, from: number, byteAt: (position: number) => number): Promise<void> => {
    reads += 1;
    readBytes += buffer.length;
    await Promise.resolve();
    for (let index = 0; index < buffer.length; index += 1) buffer[index] = byteAt(from + index);
  };
  const journal = {
    read: (buffer: Uint8Array, place: number) => {
      if (Math.floor(place / SEGMENT) !== Math.floor((place + buffer.length - 1) / SEGMENT))
        throw new Error(`a read of ${buffer.length} bytes at ${place} crosses the end of a segment`);
      return fill(buffer, place, journalByte);
    },
    bytesToSegmentEnd: (place: number) => SEGMENT - (place % SEGMENT),
  } as unknown as JournalReader;
  const image = {
    read: (buffer: Uint8Array, offset: number) =>
      imageFails ? Promise.reject(new Error('no')) : fill(buffer, offset, imageByte),
  } as unknown as BaseImage;
  return await new Promise((resolve) => {
    const request = new BlockRequest({
      completed: () => {
        resolve({ bytes: Buffer.concat(request.data), error: request.error, reads, readBytes, request });
      },
    });
    request.offset = start;
    request.length = at - start;
    const assembly = new ReadAssembly(request, {
      verdict: () => NbdError.Ok,
      readFailed: () => undefined,
      done: () => undefined,
    });
    readRuns(assembly, runs, { journal, image });
    assembly.end();
  });
}

function expected(start: number, found: readonly Run[]): Buffer {
  let at = start;
  const parts = found.map(({ length, place }) => {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index += 1) {
      if (place >= 0) bytes[index] = journalByte(place + index);
      else if (place === Place.Gap) bytes[index] = imageByte(at + index);
    }
    at += length;
    return bytes;
  });
  return Buffer.concat(parts);
}

describe('reading the runs of a range', () => {
  it('the image under small records is read once', async () => {
    const found = Array.from({ length: 16 }, (_, piece) => [
      { length: 4 * KIB, place: Place.Gap },
      { length: 4 * KIB, place: 300 * KIB - piece * 5 * KIB },
    ]).flat();
    const { bytes, reads } = await answered(128 * KIB, found);
    expect(bytes.equals(expected(128 * KIB, found))).toBe(true);
    expect(reads).toBe(1 + 16);
  });

  it('so is a large record under small ones, beside the image and another record', async () => {
    const start = 64 * KIB;
    // A record of 32 KiB, the image, and a record of 64 KiB, each with small ones on top.
    const lower = Array.from({ length: 32 }, (_, block) => {
      const at = start + block * 4 * KIB;
      if (block < 8) return at + 100_000;
      return block < 16 ? Place.Gap : at + 400_000;
    });
    const found = lower.map((place, block) => ({
      length: 4 * KIB,
      place: block % 3 === 1 ? 900_000 - block * 5000 : place,
    }));
    const { bytes, reads } = await answered(start, found);
    expect(bytes.equals(expected(start, found))).toBe(true);
    expect(reads).toBe(3 + found.filter(({ place }, block) => place !== lower[block]).length);
  });

  it('what is far from each other is not read together', async () => {
    const found = [
      { length: 4 * KIB, place: Place.Gap },
      { length: 256 * KIB, place: 100 },
      { length: 4 * KIB, place: Place.Gap },
    ];
    const { bytes, reads, readBytes } = await answered(0, found);
    expect(bytes.equals(expected(0, found))).toBe(true);
    expect([reads, readBytes]).toEqual([3, 264 * KIB]);
  });

  it('no read crosses the end of a segment', async () => {
    const place = SEGMENT - 6 * KIB;
    const found = [
      { length: 4 * KIB, place },
      { length: 4 * KIB, place: Place.Zero },
      { length: 4 * KIB, place: place + 8 * KIB },
    ];
    const { bytes, reads } = await answered(0, found);
    expect(bytes.equals(expected(0, found))).toBe(true);
    expect(reads).toBe(2);
  });

  it('a failed read, or a range that cannot be read, fails all of it', async () => {
    const gap = { length: 64 * KIB, place: Place.Gap };
    expect((await answered(0, [gap], true)).error).toBe(NbdError.Eio);
    expect((await answered(0, [gap, { length: KIB, place: Place.Unreadable }, gap])).error).toBe(NbdError.Eio);
  });

  it('any mixture is put together rightly, every slice released once', async () => {
    const seed = 4711;
    const random = new SeededRandomness(seed);
    for (let round = 0; round < 400; round += 1) {
      const start = random.below(1000) * 512;
      let at = start;
      const shifts = Array.from({ length: 1 + random.below(6) }, () => 2_000_000 + random.below(4_000_000));
      const found = Array.from({ length: 1 + random.below(40) }, (): Run => {
        const length = 512 * (1 + random.below(random.chance(0.1) ? 200 : 12));
        const kind = random.below(10);
        const shift = shifts[random.below(shifts.length)] ?? 0;
        let place: number = at + shift;
        if (Math.floor(place / SEGMENT) !== Math.floor((place + length - 1) / SEGMENT)) place = Place.Zero;
        if (kind < 3) place = Place.Gap;
        if (kind === 3) place = Place.Zero;
        at += length;
        return { length, place };
      });
      const { bytes, error, reads, readBytes, request } = await answered(start, found);
      expect(error, `seed ${seed}, round ${round}`).toBe(0);
      expect(bytes.equals(expected(start, found)), `seed ${seed}, round ${round}`).toBe(true);
      expect(reads).toBeLessThanOrEqual(found.length);
      expect(readBytes).toBeLessThanOrEqual(bytes.length + found.length * 32 * KIB);
      // Throws when more is let go of than was held, and then serves the next round.
      releaseBytes(request.data);
    }
  });
});
