import fc from 'fast-check';
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OpenFile } from '../files.js';
import { nodeFiles } from './files.js';

const MiB = 1024 * 1024;
const SIZE_BYTES = 3 * MiB + 1234;

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp('/var/tmp/direct-reads-');
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

/** A file of words that say where they are, with a hole in it. */
async function numbered(name: string, pastCache = false): Promise<{ file: OpenFile; path: string; content: Buffer }> {
  const path = join(directory, name);
  const content = Buffer.alloc(SIZE_BYTES);
  for (let at = 0; at + 4 <= SIZE_BYTES; at += 4) content.writeUInt32LE(at / 4 + 1, at);
  const file = await nodeFiles().open(path, 'create', { pastCache });
  await file.write([content], 0);
  await file.punch(MiB, MiB);
  content.fill(0, MiB, 2 * MiB);
  await file.truncate(SIZE_BYTES);
  return { file, path, content };
}

/** Bytes that this process has had fetched from disks. */
async function fetchedBytes(): Promise<number> {
  return Number(/^read_bytes: (\d+)$/m.exec(await readFile('/proc/self/io', 'latin1'))?.[1]);
}

describe('a file that is read once', () => {
  it.each([false, true])(
    'shows what any reader sees, from any byte to any other, written past the cache: %s',
    async (pastCache) => {
      const { file, content } = await numbered(`any-${pastCache}`, pastCache);
      const lengths = fc.oneof(fc.integer({ min: 1, max: 600_000 }), fc.constantFrom(4096, 262_144, 262_145, 2 * MiB));
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: SIZE_BYTES + 5000 }), lengths, async (position, length) => {
          const got = Buffer.alloc(length, 0xee);
          const count = await file.read(got, position, true);
          const expected = content.subarray(position, position + length);
          expect(count).toBe(expected.length);
          expect(got.subarray(0, count).equals(expected)).toBe(true);
          expect(got.subarray(count).every((byte) => byte === 0xee)).toBe(true);
        }),
        { numRuns: 60 },
      );
      await file.close();
    },
  );

  it('shows what was written a moment ago and is on no disk yet', async () => {
    const { file } = await numbered('fresh');
    const got = Buffer.alloc(100_000);
    for (let turn = 1; turn <= 5; turn++) {
      const fresh = Buffer.alloc(100_000, turn);
      await file.write([fresh], 777);
      await file.read(got, 777, true);
      expect(got.equals(fresh)).toBe(true);
    }
    await file.close();
  });

  it('is fetched from the disk though the page cache has it, and takes no place there', async () => {
    const { file } = await numbered('cached');
    await file.sync();
    const buffer = Buffer.alloc(MiB);
    const fetchedBy = async (once: boolean): Promise<number> => {
      const before = await fetchedBytes();
      await file.read(buffer, 2 * MiB, once);
      return (await fetchedBytes()) - before;
    };
    expect(await fetchedBy(false)).toBeLessThan(MiB);
    expect(await fetchedBy(true)).toBeGreaterThanOrEqual(MiB);
    await file.close();
  });

  it('is still that file when its name has gone to another one', async () => {
    const { file, path, content } = await numbered('renamed');
    await rename(path, `${path}.away`);
    const other = await nodeFiles().open(path, 'create');
    const got = Buffer.alloc(MiB);
    expect(await file.read(got, 5, true)).toBe(MiB);
    expect(got.equals(content.subarray(5, 5 + MiB))).toBe(true);
    await other.close();
    await file.close();
  });

  it('may be read by more at once than there is memory for', async () => {
    const { file, content } = await numbered('crowded');
    const reads = Array.from({ length: 40 }, async (_, at) => {
      const got = Buffer.alloc(300_000);
      expect(await file.read(got, at * 4321, true)).toBe(300_000);
      return got.equals(content.subarray(at * 4321, at * 4321 + 300_000));
    });
    expect(await Promise.all(reads)).toEqual(reads.map(() => true));
    await file.close();
    await expect(file.read(Buffer.alloc(MiB), 0, true)).rejects.toMatchObject({ code: 'closed' });
  });

  it('is read through the cache where there is no other way', async () => {
    const { file, path, content } = await numbered('usual');
    await file.close();
    const usual = await nodeFiles(null).open(path, 'read');
    const got = Buffer.alloc(SIZE_BYTES);
    expect(await usual.read(got, 0, true)).toBe(SIZE_BYTES);
    expect(got.equals(content)).toBe(true);
    await usual.close();
    const [process, position] = [await nodeFiles().open('/proc/self/maps', 'read'), 0];
    expect(await process.read(Buffer.alloc(MiB), position, true)).toBeGreaterThan(0);
    await process.close();
  });
});
