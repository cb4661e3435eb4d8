import fc from 'fast-check';
import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { type BlockCodec } from '../block-codec.js';
import { pureLz4 } from '../lz4-block.js';
import { nativeLz4, nodeCodecs, zstdOfSystem } from './codecs.js';

const codecs: (readonly [string, BlockCodec])[] = [['lz4 without a library', pureLz4]];
const native = nativeLz4();
if (native !== null) codecs.push(['lz4 of lz4-napi', native]);
for (const codec of nodeCodecs()) if (codec.name === 'zstd') codecs.push(['zstd', codec]);
const system = zstdOfSystem();
if (system !== null) codecs.push(['zstd of the system', system]);

/** Bytes as disks hold them: runs, repetitions from near and far, and noise. */
const disklike = fc
  .array(
    fc.oneof(
      fc.record({ run: fc.integer({ min: 1, max: 2000 }), of: fc.integer({ min: 0, max: 255 }) }),
      fc.record({ back: fc.integer({ min: 1, max: 70_000 }), length: fc.integer({ min: 1, max: 900 }) }),
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
    ),
    { minLength: 1, maxLength: 60 },
  )
  .map((parts) => {
    let bytes = Buffer.alloc(0);
    for (const part of parts) {
      if (part instanceof Uint8Array) bytes = Buffer.concat([bytes, part]);
      else if ('run' in part) bytes = Buffer.concat([bytes, Buffer.alloc(part.run, part.of)]);
      else {
        const from = Math.max(0, bytes.length - part.back);
        bytes = Buffer.concat([bytes, bytes.subarray(from, from + part.length)]);
      }
    }
    return bytes;
  })
  .filter(({ length }) => length > 0);

test('this machine has both codecs, LZ4 from its library', () => {
  expect(nodeCodecs().map(({ name }) => name)).toEqual(['lz4', 'zstd']);
  expect(native).not.toBeNull();
});

test.each(codecs)('%s gives back what it was given', (_, codec) => {
  fc.assert(
    fc.property(disklike, (raw) => {
      expect(codec.decompress(codec.compress(raw), raw.length)?.equals(raw)).toBe(true);
    }),
    { numRuns: 150 },
  );
  for (const length of [1, 4, 5, 12, 13, 64 * 1024, 1_000_003]) {
    for (const raw of [Buffer.alloc(length, 7), randomBytes(length)]) {
      expect(codec.decompress(codec.compress(raw), length)?.equals(raw)).toBe(true);
    }
  }
});

test.each(codecs)('%s makes zeroes and text small, and noise hardly larger', (_, codec) => {
  expect(codec.compress(Buffer.alloc(65_536)).length).toBeLessThan(600);
  expect(codec.compress(Buffer.from('the disk of a virtual machine, '.repeat(2000))).length).toBeLessThan(2000);
  expect(codec.compress(randomBytes(65_536)).length).toBeLessThan(65_536 + 600);
});

test.each(codecs)('%s refuses another length than the bytes have', (_, codec) => {
  const raw = Buffer.alloc(5000, 'abc');
  const packed = codec.compress(raw);
  for (const length of [1, 4999, 5001, 32 * 1024 * 1024]) expect(codec.decompress(packed, length)).toBeNull();
});

test.each(codecs)(
  '%s survives bytes that are cut, garbled or made up, and never gives more than was asked for',
  (_, codec) => {
    fc.assert(
      fc.property(disklike, fc.nat(), fc.integer({ min: 0, max: 7 }), fc.nat(), (raw, where, bit, cut) => {
        const packed = codec.compress(raw);
        const flipped = Buffer.from(packed);
        flipped[where % flipped.length] = (flipped[where % flipped.length] ?? 0) ^ (1 << bit);
        for (const bytes of [flipped, packed.subarray(0, cut % packed.length), Buffer.concat([packed, raw])]) {
          const result = codec.decompress(bytes, raw.length);
          if (result !== null) expect(result.length).toBe(raw.length);
        }
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 400 }),
        fc.integer({ min: 1, max: 5000 }),
        (bytes, length) => {
          const named = Buffer.from(bytes);
          if (named.length >= 4) named.writeUInt32LE(length, 0);
          for (const made of [Buffer.from(bytes), named]) {
            const result = codec.decompress(made, length);
            if (result !== null) expect(result.length).toBe(length);
          }
        },
      ),
      { numRuns: 1000 },
    );
  },
);

test('a length of 4 GiB in the bytes themselves takes no memory', () => {
  const packed = Buffer.from((native ?? pureLz4).compress(Buffer.alloc(4096, 1)));
  packed.writeUInt32LE(0xffff_fff0, 0);
  expect((native ?? pureLz4).decompress(packed, 4096)).toBeNull();
});

test('both LZ4s read what the other wrote', () => {
  fc.assert(
    fc.property(disklike, (raw) => {
      expect(pureLz4.decompress(native?.compress(raw) ?? raw, raw.length)?.equals(raw)).toBe(true);
      expect(native?.decompress(pureLz4.compress(raw), raw.length)?.equals(raw)).toBe(true);
    }),
    { numRuns: 200 },
  );
});
