import { Fault, ProtocolFault } from '@rephub/platform';
import { nodeCodecs } from '@rephub/platform/node';
import { simPlatform } from '@rephub/platform/sim';
import fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { codecFeatures, codecOf, Compression, rawPayload } from './compression.js';
import { commonFeatures } from './features.js';
import { encodeHeader, encodeTrailer, FrameHeader, FrameType, HEADER_BYTES, TRAILER_BYTES } from './frame.js';
import { FrameReader } from './frame-reader.js';
import { RecordEncoder } from './record-encoder.js';

const LINE = Buffer.alloc(16, 5);
const CODECS = nodeCodecs();
const RAW = Buffer.concat([Buffer.alloc(3000, 'some of it is text, '), Buffer.alloc(2000), Buffer.alloc(3192, 'x1')]);

function frameOf(codec: (typeof CODECS)[number], raw: Buffer, cut = 1000): { frame: Buffer; checksum: number } {
  const stored = codec.compress(raw);
  const encoder = new RecordEncoder(LINE, 1, 0);
  const slices = [stored.subarray(0, 7), stored.subarray(7)];
  const packed = { compression: Compression[codec.name], slices, bytes: stored.length };
  encoder.encode(FrameType.Write, 0, 0, 4096, raw.length, 1, 0, [raw.subarray(0, cut), raw.subarray(cut)], packed);
  return { frame: Buffer.concat([encoder.head, ...slices, encoder.tail]), checksum: encoder.lastChecksum };
}

/** What came of the bytes: the raw payload of each frame, and the fault that ended it. */
function receive(bytes: Buffer, codecs = CODECS): { payloads: Buffer[]; fault: unknown } {
  const payloads: Buffer[] = [];
  const reader = new FrameReader({
    frame: (header, raw) => {
      payloads.push(rawPayload(header, raw, codecs));
    },
  });
  try {
    reader.push(bytes);
  } catch (fault) {
    return { payloads, fault };
  }
  return { payloads, fault: null };
}

/** The frame with other payload bytes, every checksum but that of the raw bytes put right: what only a liar sends. */
function forged(frame: Buffer, change: (header: FrameHeader, stored: Buffer) => Buffer): Buffer {
  let made = Buffer.alloc(0);
  new FrameReader({
    frame: (header, raw) => {
      const stored = change(header, Buffer.from(Buffer.concat(raw).subarray(HEADER_BYTES, -TRAILER_BYTES)));
      header.storedLength = stored.length;
      header.storedChecksum = crc32(stored);
      made = Buffer.alloc(HEADER_BYTES + stored.length + TRAILER_BYTES);
      encodeHeader(header, made, 0);
      stored.copy(made, HEADER_BYTES);
      encodeTrailer(header.headerChecksum, made, HEADER_BYTES + stored.length);
    },
  }).push(frame);
  return made;
}

describe.each(CODECS.map((codec) => [codec.name, codec] as const))('a record compressed with %s', (name, codec) => {
  test('gives back the raw bytes, and says of itself what it is', () => {
    const { frame } = frameOf(codec, RAW);
    expect(frame.length).toBeLessThan(RAW.length / 4);
    const { payloads, fault } = receive(frame);
    expect(fault).toBeNull();
    expect(payloads).toHaveLength(1);
    expect(payloads[0]?.equals(RAW)).toBe(true);
    const header = new FrameHeader();
    new FrameReader({ frame: (found) => Object.assign(header, found) }).push(frame);
    expect(header).toMatchObject({ compression: Compression[name], length: RAW.length, rawChecksum: crc32(RAW) });
  });

  test('is refused with any bit flipped, wherever it is (promise FRAME)', () => {
    const { frame } = frameOf(codec, RAW);
    for (let bit = 0; bit < frame.length * 8; bit += 1) {
      const bytes = Buffer.from(frame);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const { payloads, fault } = receive(bytes);
      // What reads as a longer frame waits for its end.
      if (fault !== null) expect(fault).toBeInstanceOf(Fault);
      expect(payloads).toEqual([]);
    }
  });

  test('is refused, or means the same, when a liar puts the checksum of the stored bytes right', () => {
    const { frame } = frameOf(codec, RAW);
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 0, max: 7 }), (where, bit) => {
        const { payloads, fault } = receive(
          forged(frame, (_, stored) => {
            stored[where % stored.length] = (stored[where % stored.length] ?? 0) ^ (1 << bit);
            return stored;
          }),
        );
        if (fault === null) expect(payloads[0]?.equals(RAW)).toBe(true);
        else expect(fault).toBeInstanceOf(ProtocolFault);
      }),
      { numRuns: 2000 },
    );
  });

  test('is refused when it holds more than it says, or less', () => {
    const { frame } = frameOf(codec, RAW);
    for (const length of [RAW.length - 1, RAW.length + 1, 32 * 1024 * 1024]) {
      const bytes = forged(frame, (header, stored) => {
        header.length = length;
        return stored;
      });
      expect(receive(bytes).fault).toMatchObject({ code: 'payload-compressed' });
    }
  });

  test('is refused where its raw bytes are others than the header speaks of', () => {
    const bytes = forged(frameOf(codec, RAW).frame, (header, stored) => {
      header.rawChecksum = (header.rawChecksum + 1) >>> 0;
      return stored;
    });
    expect(receive(bytes).fault).toMatchObject({ code: 'payload-checksum' });
  });

  test('is refused where the codec is not at hand', () => {
    const others = CODECS.filter((other) => other !== codec);
    expect(receive(frameOf(codec, RAW).frame, others).fault).toMatchObject({ code: 'payload-codec' });
  });
});

test('the chain goes over the header as it is carried: a compressed record and a plain one differ in it', () => {
  const [codec] = CODECS;
  if (codec === undefined) throw new Error('there is no codec');
  const plain = new RecordEncoder(LINE, 1, 0);
  plain.encode(FrameType.Write, 0, 0, 4096, RAW.length, 1, 0, [RAW]);
  expect(frameOf(codec, RAW).checksum).not.toBe(plain.lastChecksum);
});

test('after a compressed record a plain one is plain again', () => {
  const [codec] = CODECS;
  if (codec === undefined) throw new Error('there is no codec');
  const stored = codec.compress(RAW);
  const encoder = new RecordEncoder(LINE, 1, 0);
  const packed = { compression: Compression[codec.name], slices: [stored], bytes: stored.length };
  encoder.encode(FrameType.Write, 0, 0, 0, RAW.length, 1, 0, [RAW], packed);
  const first = Buffer.concat([encoder.head, stored, encoder.tail]);
  encoder.encode(FrameType.Write, 0, 0, 0, RAW.length, 2, 0, [RAW]);
  const { payloads, fault } = receive(Buffer.concat([first, encoder.head, RAW, encoder.tail]));
  expect(fault).toBeNull();
  expect(payloads.map((payload) => payload.equals(RAW))).toEqual([true, true]);
});

test('codecs are agreed upon as features: an older peer names none, and none is used (promise UPGRADE)', () => {
  const mine = codecFeatures(CODECS);
  expect(mine).toEqual(['compress-lz4', 'compress-zstd']);
  expect(commonFeatures(['hashes-gmac', 'compress-zstd', 'compress-brotli'], mine)).toEqual([
    'hashes-gmac',
    'compress-zstd',
  ]);
  expect(commonFeatures(['hashes-gmac'], mine)).toEqual(['hashes-gmac']);
  expect(codecFeatures(simPlatform(1).codecs)).toEqual(['compress-lz4']);
  expect(codecOf(Compression.zstd, simPlatform(1).codecs)).toBeNull();
});
