/**
 * The frame reader against streams that were cut, damaged, forged or made up (promise FRAME): any chunking gives the same
 * frames, any damage a stated refusal or an unfinished frame, and no length is believed before it is checked.
 * A failing run prints its seed.
 */
import { type Fault, ProtocolFault } from '@rephub/platform';
import {
  encodeControl,
  FRAME_OVERHEAD_BYTES,
  FrameFlag,
  FrameHeader,
  FrameReader,
  FrameType,
  frameBytes,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  encodeHeader,
  payloadOf,
  RecordEncoder,
} from '@rephub/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32 } from 'node:zlib';

const LINE = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

type Draft =
  | { readonly kind: 'write'; readonly bytes: number; readonly fill: number }
  | { readonly kind: 'bare'; readonly type: FrameType; readonly length: number }
  | { readonly kind: 'control'; readonly reason: string };

const draft: fc.Arbitrary<Draft> = fc.oneof(
  fc.record({
    kind: fc.constant('write' as const),
    bytes: fc.oneof(fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 6_000 })),
    fill: fc.nat(255),
  }),
  fc.record({
    kind: fc.constant('bare' as const),
    type: fc.constantFrom(FrameType.Zero, FrameType.Discard, FrameType.Flush, FrameType.Unreadable),
    length: fc.nat(2 ** 30),
  }),
  fc.record({ kind: fc.constant('control' as const), reason: fc.string({ maxLength: 200 }) }),
);

function build(drafts: readonly Draft[]): Buffer[] {
  const encoder = new RecordEncoder(LINE, 1, 0);
  return drafts.map((each) => {
    switch (each.kind) {
      case 'write': {
        const payload = Buffer.alloc(each.bytes, each.fill);
        encoder.encode(FrameType.Write, FrameFlag.Copied, 1, 4096, each.bytes, 1, 0, [payload]);
        return Buffer.concat([encoder.head, payload, encoder.tail]);
      }
      case 'bare':
        encoder.encode(each.type, 0, 1, 0, each.length, 1, 0, []);
        return encoder.head;
      case 'control':
        return encodeControl(FrameType.Bye, { reason: each.reason });
    }
  });
}

interface Outcome {
  readonly frames: readonly Buffer[];
  readonly fault: Fault | null;
  readonly atBoundary: boolean;
}

/** Feeds the pieces; anything thrown that is no ProtocolFault fails the test. */
function read(pieces: Iterable<Buffer>): Outcome {
  const frames: Buffer[] = [];
  const reader = new FrameReader({
    frame: (header, raw) => {
      const bytes = Buffer.concat(raw);
      expect(bytes.length).toBe(frameBytes(header));
      expect(Buffer.concat(payloadOf(header, raw)).equals(bytes.subarray(HEADER_BYTES, -8))).toBe(true);
      frames.push(bytes);
    },
  });
  try {
    for (const piece of pieces) reader.push(piece);
  } catch (thrown) {
    if (!(thrown instanceof ProtocolFault)) throw thrown;
    return { frames, fault: thrown, atBoundary: false };
  }
  return { frames, fault: null, atBoundary: reader.atBoundary };
}

/** Cuts a stream by a list of sizes that is gone through again and again. Every piece is memory of its own. */
function* cut(stream: Buffer, sizes: readonly number[]): Generator<Buffer> {
  let at = 0;
  for (let index = 0; at < stream.length; index += 1) {
    const size = Math.max(1, sizes[index % sizes.length] ?? 1);
    yield Buffer.from(stream.subarray(at, at + size));
    at += size;
  }
}

const sizes = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: 4 }),
    fc.constantFrom(7, 8, 87, 88, 89, 95, 96, 97, 511, 512, 513),
    fc.integer({ min: 1, max: 9_000 }),
  ),
  { minLength: 1, maxLength: 12 },
);

describe('frame streams', () => {
  test('any chunking of a stream gives the same frames', () => {
    fc.assert(
      fc.property(fc.array(draft, { maxLength: 12 }), sizes, (drafts, chunking) => {
        const frames = build(drafts);
        const outcome = read(cut(Buffer.concat(frames), chunking));
        expect(outcome.fault).toBeNull();
        expect(outcome.atBoundary).toBe(true);
        expect(outcome.frames.length).toBe(frames.length);
        for (const [index, frame] of frames.entries()) expect(frame.equals(outcome.frames[index] ?? LINE)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test('a stream that ends early gives the frames that are whole, and says that it ended within one', () => {
    const frames = build([
      { kind: 'write', bytes: 30, fill: 1 },
      { kind: 'bare', type: FrameType.Zero, length: 5 },
      { kind: 'control', reason: 'x' },
    ]);
    const stream = Buffer.concat(frames);
    const ends = frames.map((_, index) => Buffer.concat(frames.slice(0, index + 1)).length);
    for (let length = 0; length <= stream.length; length += 1) {
      const outcome = read([stream.subarray(0, length)]);
      expect(outcome.frames.length).toBe(ends.filter((end) => end <= length).length);
      expect(outcome.atBoundary).toBe(length === 0 || ends.includes(length));
      expect(outcome.fault).toBeNull();
    }
  });

  test('every single flipped bit of a short stream is refused, or leaves a frame unfinished; what came before stands', () => {
    const frames = build([
      { kind: 'bare', type: FrameType.Discard, length: 512 },
      { kind: 'write', bytes: 40, fill: 0xaa },
      { kind: 'control', reason: 'bye' },
    ]);
    const stream = Buffer.concat(frames);
    let refused = 0;
    for (let bit = 0; bit < stream.length * 8; bit += 1) {
      const damaged = Buffer.from(stream);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      for (const pieces of [[damaged], cut(damaged, [13])]) {
        const outcome = read(pieces);
        expect(outcome.fault !== null || !outcome.atBoundary, `bit ${bit}`).toBe(true);
        if (outcome.fault !== null) refused += 1;
        let before = 0;
        for (const frame of outcome.frames) {
          expect(frame.equals(stream.subarray(before, before + frame.length))).toBe(true);
          before += frame.length;
        }
        expect(before).toBeLessThanOrEqual(bit >> 3);
      }
    }
    // All three headers are complete in this stream, so no flip gets as far as being waited for.
    expect(refused).toBe(stream.length * 16);
  });

  test('a flipped bit anywhere in a long stream is refused', () => {
    fc.assert(
      fc.property(
        fc.array(draft, { minLength: 1, maxLength: 6 }),
        sizes,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (drafts, chunking, where) => {
          const stream = Buffer.concat(build(drafts));
          const bit = Math.floor(where * stream.length * 8);
          stream.writeUInt8(stream.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
          expect(read(cut(stream, chunking)).fault).not.toBeNull();
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a byte that is lost or doubled is refused, or leaves a frame unfinished', () => {
    fc.assert(
      fc.property(fc.array(draft, { minLength: 1, maxLength: 4 }), fc.nat(), fc.boolean(), (drafts, at, doubled) => {
        const stream = Buffer.concat(build(drafts));
        const place = at % stream.length;
        const damaged = Buffer.concat([
          stream.subarray(0, doubled ? place + 1 : place),
          stream.subarray(doubled ? place : place + 1),
        ]);
        const outcome = read([damaged]);
        expect(outcome.fault !== null || !outcome.atBoundary).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test('random bytes are refused, with the magic in front as well', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 400 }),
        fc.boolean(),
        sizes,
        (bytes, withMagic, chunking) => {
          const stream = Buffer.concat([Buffer.from(withMagic ? 'RPH1' : ''), bytes]);
          const outcome = read(cut(stream, chunking));
          expect(outcome.frames).toEqual([]);
          expect(outcome.fault !== null).toBe(stream.length >= HEADER_BYTES);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test('headers of any content, with a checksum that fits, are refused by a reason or waited for within the limits', () => {
    let waited = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 4, max: 83 }), fc.nat(255)), { maxLength: 6 }),
        fc.constantFrom(...Object.values(FrameType)),
        (changes, type) => {
          const header = new FrameHeader();
          header.type = type;
          header.line = LINE;
          header.number = 1;
          const bytes = Buffer.alloc(HEADER_BYTES);
          encodeHeader(header, bytes, 0);
          for (const [place, value] of changes) bytes.writeUInt8(value, place);
          bytes.writeUInt32LE(crc32(bytes.subarray(0, 84)), 84);
          const reader = new FrameReader({ frame: () => expect.fail('a frame without an end') });
          try {
            reader.push(bytes);
          } catch (thrown) {
            if (!(thrown instanceof ProtocolFault)) throw thrown;
            return;
          }
          waited += 1;
          expect(bytes.readUInt32LE(12)).toBeLessThanOrEqual(MAX_PAYLOAD_BYTES);
        },
      ),
      { numRuns: 5_000 },
    );
    expect(waited).toBeGreaterThan(100);
  });

  test('a thousand announcements of 32 MiB take no memory until the bytes come', () => {
    const header = new FrameHeader();
    header.line = LINE;
    header.number = 1;
    header.storedLength = MAX_PAYLOAD_BYTES;
    header.length = MAX_PAYLOAD_BYTES;
    const bytes = Buffer.alloc(HEADER_BYTES);
    encodeHeader(header, bytes, 0);
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 1_000 }, () => new FrameReader({ frame: () => undefined }));
    for (const reader of readers) reader.push(bytes);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 * 1024 * 1024);
    expect(readers.every((reader) => reader.insidePayload)).toBe(true);
  });

  test('a payload dripped in small pieces takes about its own size, whatever the pieces', () => {
    const payload = Buffer.alloc(400_000, 1);
    const encoder = new RecordEncoder(LINE, 1, 0);
    encoder.encode(FrameType.Write, 0, 0, 0, payload.length, 1, 0, [payload]);
    const stream = Buffer.concat([encoder.head, payload, encoder.tail]);
    for (const size of [1, 3, 511, 512]) {
      let held = 0;
      let slices = 0;
      const reader = new FrameReader({
        frame: (_header, raw) => {
          slices = raw.length;
          held = new Set(raw.map((slice) => slice.buffer)).size;
        },
      });
      for (let at = 0; at < stream.length; at += size) reader.push(Buffer.from(stream.subarray(at, at + size)));
      expect(slices).toBeLessThanOrEqual(Math.ceil(stream.length / 512) + 1);
      expect(held).toBeLessThanOrEqual(slices);
    }
    expect(stream.length).toBe(payload.length + FRAME_OVERHEAD_BYTES);
  });
});
