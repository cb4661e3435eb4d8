import { ProtocolFault } from '@rephub/platform';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { commonFeatures } from './features.js';
import { FrameType } from './frame.js';
import {
  allZero,
  BlockKind,
  DIGEST_BYTES,
  digestOf,
  HashedRegion,
  HashesBuilder,
  hashesSchema,
  hashRegionSchema,
  MAX_HASHED_BYTES,
  type RegionHashes,
} from './hashes.js';
import { decodeBody, encodeBody, encodeControl } from './messages.js';

const KEY = Buffer.alloc(16, 7);
const BLOCK = 4096;
const request = {
  tag: 9,
  number: 1234,
  volume: 1,
  offset: 65_536,
  length: 3 * BLOCK,
  blockBytes: BLOCK,
  key: KEY,
};
const digest = (fill: number): Buffer => Buffer.alloc(DIGEST_BYTES, fill);

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof ProtocolFault) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('the digest of a block', () => {
  test('is AES-128-GMAC, test case 1 of the GCM specification included, however the bytes are cut', () => {
    expect(digestOf(Buffer.alloc(16), []).toString('hex')).toBe('58e2fccefa7e3061367f1d57a4e7455a');
    const block = Buffer.from('some content of a block, longer than one block of AES');
    const whole = digestOf(KEY, [block]);
    expect(whole).toHaveLength(DIGEST_BYTES);
    expect(digestOf(KEY, [block.subarray(0, 5), block.subarray(5)]).equals(whole)).toBe(true);
    expect(digestOf(Buffer.alloc(16), [block]).equals(whole)).toBe(false);
  });

  test('differs for any bit, any byte more, and for parts that change places', () => {
    const block = Buffer.alloc(64, 'content ');
    const seen = new Set([digestOf(KEY, [block]).toString('hex')]);
    for (let bit = 0; bit < 8 * block.length; bit += 1) {
      const changed = Buffer.from(block);
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      seen.add(digestOf(KEY, [changed]).toString('hex'));
    }
    seen.add(digestOf(KEY, [block, Buffer.alloc(1)]).toString('hex'));
    seen.add(digestOf(KEY, [block.subarray(1), block.subarray(0, 1)]).toString('hex'));
    expect(seen.size).toBe(8 * block.length + 3);
  });

  test('zeroes are found in parts of any length, and one bit is not zero', () => {
    const big = Buffer.alloc(200_000);
    expect(allZero([big, Buffer.alloc(0), Buffer.alloc(3)])).toBe(true);
    big.writeUInt8(1, 199_999);
    expect(allZero([Buffer.alloc(7), big])).toBe(false);
  });
});

describe('the two messages', () => {
  test('are laid out byte for byte as written down here (golden)', () => {
    const asked = encodeControl(FrameType.HashRegion, request);
    expect(asked.subarray(88, asked.length - 8).toString('hex')).toBe(
      'de0007a374616709a66e756d626572cd04d2a6766f6c756d6501a66f6666736574ce00010000a66c656e677468cd3000' +
        `aa626c6f636b4279746573cd1000a36b6579c410${KEY.toString('hex')}`,
    );
    const answered = encodeControl(FrameType.Hashes, {
      tag: 9,
      hashes: { covered: 2 * BLOCK, runs: [1, BlockKind.Zero, 1, BlockKind.Data], digests: digest(5) },
      refused: null,
    });
    expect(answered.readUInt8(5)).toBe(75);
    expect(answered.subarray(88, answered.length - 8).toString('hex')).toBe(
      `de0003a374616709a6686173686573de0003a7636f7665726564cd2000a472756e739401000101a764696765737473c410${'05'.repeat(16)}a772656675736564c0`,
    );
  });

  test('bytes that were decoded are their own', () => {
    const body = encodeBody(request);
    const decoded = decodeBody(hashRegionSchema, body, 'HashRegion');
    body.fill(0);
    expect(decoded.key.equals(KEY)).toBe(true);
  });

  test.each<[string, object, RegExp]>([
    ['a tag of 0', { tag: 0 }, /tag/],
    ['no length', { length: 0 }, /length/],
    ['a region beyond the limit', { length: MAX_HASHED_BYTES + 1 }, /length/],
    ['a block that is no power of two', { blockBytes: 12_288 }, /blockBytes/],
    ['a block below 4 KiB', { blockBytes: 2048 }, /blockBytes/],
    ['a short key', { key: Buffer.alloc(8) }, /key/],
    ['a key of text', { key: 'x'.repeat(16) }, /key/],
  ])('a request with %s is refused', (_what, wrong, why) => {
    expect(() => decodeBody(hashRegionSchema, encodeBody({ ...request, ...wrong }), 'HashRegion')).toThrow(why);
  });

  test('an answer is an answer or a refusal, never both or neither', () => {
    const hashes = { covered: 1, runs: [1, 0], digests: Buffer.alloc(0) };
    const refused = { code: 'x', message: 'y' };
    const check = (body: object): unknown => decodeBody(hashesSchema, encodeBody({ tag: 1, ...body }), 'Hashes');
    expect(check({ hashes, refused: null })).toMatchObject({ hashes });
    expect(check({ hashes: null, refused })).toMatchObject({ refused });
    expect(() => check({ hashes, refused })).toThrow(/must be/);
    expect(() => check({ hashes: null, refused: null })).toThrow(/must be/);
  });
});

describe('an answer', () => {
  test('is read back block by block as it was built, whatever the order of kinds', () => {
    const kinds = fc.array(fc.constantFrom(BlockKind.Zero, BlockKind.Data, BlockKind.Unreadable), { minLength: 1 });
    fc.assert(
      fc.property(kinds, fc.integer({ min: 1, max: BLOCK }), (blocks, lastLength) => {
        const builder = new HashesBuilder(BLOCK);
        for (const [at, kind] of blocks.entries()) {
          const length = at === blocks.length - 1 ? lastLength : BLOCK;
          builder.add(kind, length, kind === BlockKind.Data ? digest(at % 256) : null);
        }
        const length = (blocks.length - 1) * BLOCK + lastLength;
        const region = new HashedRegion({ length, blockBytes: BLOCK }, builder.build());
        expect(region.coveredBytes).toBe(length);
        for (const [at, kind] of blocks.entries()) {
          expect(region.kind(at)).toBe(kind);
          expect(region.hasDigest(at, digest(at % 256))).toBe(kind === BlockKind.Data);
          expect(region.hasDigest(at, digest((at + 1) % 256))).toBe(false);
        }
      }),
    );
  });

  const good: RegionHashes = { covered: 3 * BLOCK, runs: [2, 1, 1, 0], digests: Buffer.alloc(32) };
  test.each<[string, Partial<RegionHashes>]>([
    ['covers more than was asked for', { covered: 4 * BLOCK, runs: [3, 1, 1, 0] }],
    ['stops within a block', { covered: BLOCK + 1, runs: [2, 0], digests: Buffer.alloc(0) }],
    ['has too few blocks', { runs: [1, 1, 1, 0], digests: Buffer.alloc(16) }],
    ['has a digest too few', { digests: Buffer.alloc(16) }],
    ['has a digest too many', { digests: Buffer.alloc(48) }],
    ['has an empty run', { runs: [2, 1, 0, 2, 1, 0] }],
    ['has an unknown kind', { runs: [2, 1, 1, 3] }],
    ['has half a run', { runs: [2, 1, 1] }],
  ])('that %s is refused', (_what, wrong) => {
    expect(codeOf(() => new HashedRegion(request, good))).toBe('accepted');
    expect(codeOf(() => new HashedRegion(request, { ...good, ...wrong }))).toBe('hash-answer');
  });

  test('may stop short at the end of a block', () => {
    const region = new HashedRegion(request, { covered: BLOCK, runs: [1, 1], digests: digest(1) });
    expect(region.coveredBytes).toBe(BLOCK);
  });
});

test('features are used only where both sides name them (promise UPGRADE)', () => {
  expect(commonFeatures([])).toEqual([]);
  expect(commonFeatures(['something-new'])).toEqual([]);
  expect(commonFeatures(['something-new', 'hashes-gmac'])).toEqual(['hashes-gmac']);
});
