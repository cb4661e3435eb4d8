import fc from 'fast-check';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeFiles } from './files.js';
import { PastCacheFile } from './past-cache-file.js';

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp('/var/tmp/past-cache-');
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

describe('a file written past the page cache', () => {
  it('holds what was appended, whatever the pieces, and what it held before', async () => {
    const files = nodeFiles();
    const piece = fc.integer({ min: 0, max: 9000 });
    const large = fc.constantFrom(0, 0, 0, 1024 * 1024, 1088 * 1024, 2 * 1024 * 1024 + 77, 2112 * 1024 + 5);
    const writes = fc.array(fc.tuple(piece, piece, large), { minLength: 1, maxLength: 6 });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(piece, writes, async (before, lengths) => {
        const path = join(directory, String(run++));
        const first = await files.open(path, 'create');
        await first.write([Buffer.alloc(before, 'b')], 0);
        await first.close();
        const file = await files.open(path, 'write', { pastCache: true });
        const expected: Buffer[] = [Buffer.alloc(before, 'b')];
        let position = before;
        for (const [at, sizes] of lengths.entries()) {
          const chunks = sizes.map((size, index) => Buffer.alloc(size, `${at}.${index};`));
          await file.write(chunks, position);
          expected.push(...chunks);
          position += sizes.reduce((sum, size) => sum + size, 0);
          const back = Buffer.alloc(position);
          expect(await file.read(back, 0)).toBe(position);
          expect(back.equals(Buffer.concat(expected))).toBe(true);
        }
        await file.truncate(position);
        await file.sync();
        await file.close();
        expect((await readFile(path)).equals(Buffer.concat(expected))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('is one where the file system has it, and an ordinary one where it has not', async () => {
    const usual = await nodeFiles().open(join(directory, 'here'), 'create', { pastCache: true });
    expect(usual).toBeInstanceOf(PastCacheFile);
    await usual.close();
    const without = await nodeFiles(null).open(join(directory, 'there'), 'create', { pastCache: true });
    expect(without).not.toBeInstanceOf(PastCacheFile);
    await without.write([Buffer.from('x')], 0);
    await without.close();
  });

  it('writes one after the other what was asked for at once', async () => {
    const path = join(directory, 'overlap');
    const file = await nodeFiles().open(path, 'create', { pastCache: true });
    await Promise.all(Array.from({ length: 8 }, (_, at) => file.write([Buffer.alloc(1000, at + 1)], at * 1000)));
    await file.truncate(8000);
    await file.close();
    const content = await readFile(path);
    for (let at = 0; at < 8; at++)
      expect(content.subarray(at * 1000, (at + 1) * 1000).equals(Buffer.alloc(1000, at + 1))).toBe(true);
  });
});
