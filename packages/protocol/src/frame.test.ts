import { ProtocolFault } from '@rephub/platform';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  checkTrailer,
  decodeHeader,
  encodeHeader,
  encodeTrailer,
  FRAME_OVERHEAD_BYTES,
  frameBytes,
  FrameFlag,
  FrameHeader,
  FrameType,
  HEADER_BYTES,
  isRecordType,
  MAX_CONTROL_BYTES,
  MAX_PAYLOAD_BYTES,
} from './frame.js';
import { encodeControl } from './messages.js';

const LINE = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

function header(overrides: Partial<FrameHeader> = {}): FrameHeader {
  const made = new FrameHeader();
  made.line = LINE;
  made.number = 1;
  return Object.assign(made, overrides);
}

function write(overrides: Partial<FrameHeader> = {}): FrameHeader {
  return header({ storedLength: 512, length: 512, ...overrides });
}

function encoded(from: FrameHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  encodeHeader(from, bytes, 0);
  return bytes;
}

/** Bytes with a part changed and the checksum made good again: what only a lying peer sends. */
function forged(from: FrameHeader, change: (bytes: Buffer) => void): Buffer {
  const bytes = encoded(from);
  change(bytes);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 84)), 84);
  return bytes;
}

function codeOf(bytes: Buffer): string {
  try {
    decodeHeader(bytes, 0, new FrameHeader());
    return 'accepted';
  } catch (thrown) {
    if (thrown instanceof ProtocolFault) return thrown.code;
    throw thrown;
  }
}

describe('frame, golden bytes', () => {
  const GOLDEN_HEADER =
    '52504831' + // magic "RPH1"
    '01' + // version
    '01' + // type Write
    '0300' + // flags Copied, Answer
    '0201' + // volume 0x0102
    '00' + // no compression
    '00' +
    '04000000' + // stored length
    '00112233445566778899aabbccddeeff' + // line
    'f0debc9a78561200' + // number
    '0000010000000000' + // offset 65536
    '0400000000000000' + // length
    '40420f0000000000' + // agent time 1000000
    '63f3f3ad' + // CRC-32 of the payload "data"
    '63f3f3ad' + // … and uncompressed
    '07000000' + // tag
    '00000000' +
    'efbeadde'; // checksum of the record before

  const golden = (): FrameHeader =>
    header({
      type: FrameType.Write,
      flags: FrameFlag.Copied | FrameFlag.Answer,
      volume: 0x0102,
      storedLength: 4,
      number: 0x12_5678_9abc_def0,
      offset: 65_536,
      length: 4,
      agentTimeUs: 1_000_000,
      storedChecksum: crc32('data'),
      rawChecksum: crc32('data'),
      tag: 7,
      previousChecksum: 0xdeadbeef,
    });

  test('a header is laid out as the table says, byte by byte', () => {
    const bytes = encoded(golden());
    expect(bytes.subarray(0, 84).toString('hex')).toBe(GOLDEN_HEADER);
    expect(bytes.readUInt32LE(84)).toBe(crc32(Buffer.from(GOLDEN_HEADER, 'hex')));
    expect(bytes.subarray(84).toString('hex')).toBe('c79a4738');
  });

  test('the golden header decodes to the same fields, at any place in a buffer', () => {
    const bytes = Buffer.concat([Buffer.alloc(13, 0xff), encoded(golden()), Buffer.alloc(5, 0xff)]);
    const decoded = new FrameHeader();
    decodeHeader(bytes, 13, decoded);
    const expected = golden();
    encodeHeader(expected, Buffer.alloc(HEADER_BYTES), 0);
    expect({ ...fields(decoded) }).toEqual({ ...fields(expected) });
  });

  test('a trailer is the closing magic and the header checksum', () => {
    const bytes = Buffer.alloc(8);
    encodeTrailer(0xdeadbeef, bytes, 0);
    expect(bytes.toString('hex')).toBe('31485052efbeadde');
    checkTrailer(bytes, 0, 0xdeadbeef);
  });

  test('a whole control frame', () => {
    expect(encodeControl(FrameType.Bye, { reason: 'x' }).toString('hex')).toBe(
      '5250483101490000000000000c000000' +
        '00'.repeat(48) +
        '5376cb345376cb34' +
        '00'.repeat(12) +
        '7aeba63a' +
        'de0001a6726561736f6ea178' +
        '314850527aeba63a',
    );
  });

  test('the constants that others rely on', () => {
    expect([HEADER_BYTES, FRAME_OVERHEAD_BYTES, MAX_PAYLOAD_BYTES, MAX_CONTROL_BYTES]).toEqual([
      88, 96, 33_554_432, 1_048_576,
    ]);
    expect(frameBytes(write())).toBe(608);
    expect(Object.values(FrameType).filter(isRecordType)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });
});

describe('frame, what a header may say', () => {
  test.each<[string, Buffer, string]>([
    ['another magic', forged(write(), (bytes) => bytes.writeUInt8(0, 0)), 'frame-magic'],
    ['a wrong checksum', Buffer.from(encoded(write())).fill(0, 84), 'frame-checksum'],
    ['another version', forged(write(), (bytes) => bytes.writeUInt8(2, 4)), 'frame-version'],
    ['an unknown record type', forged(write(), (bytes) => bytes.writeUInt8(13, 5)), 'frame-type'],
    ['an unknown control type', forged(write(), (bytes) => bytes.writeUInt8(255, 5)), 'frame-type'],
    ['type 0', forged(write(), (bytes) => bytes.writeUInt8(0, 5)), 'frame-type'],
    ['an unknown flag', forged(write(), (bytes) => bytes.writeUInt16LE(4, 6)), 'frame-field'],
    ['the first reserved byte', forged(write(), (bytes) => bytes.writeUInt8(1, 11)), 'frame-field'],
    ['the second reserved field', forged(write(), (bytes) => bytes.writeUInt32LE(1, 76)), 'frame-field'],
    ['an unknown compression', forged(write(), (bytes) => bytes.writeUInt8(3, 10)), 'frame-field'],
    ['compression of what is no write', encoded(header({ type: FrameType.Zero, compression: 1 })), 'frame-field'],
    ['two checksums for one payload', encoded(write({ storedChecksum: 1, rawChecksum: 2 })), 'frame-field'],
    ['a write of nothing', encoded(header()), 'frame-field'],
    ['a write whose payload is shorter', encoded(write({ storedLength: 511 })), 'frame-field'],
    ['a compressed write without payload', encoded(write({ compression: 1, storedLength: 0 })), 'frame-field'],
    ['a compressed write that grew', encoded(write({ compression: 1, storedLength: 513 })), 'frame-field'],
    ['a write of more than 32 MiB', encoded(write({ compression: 1, length: MAX_PAYLOAD_BYTES + 1 })), 'frame-field'],
    ['a payload of more than 32 MiB', encoded(write({ storedLength: MAX_PAYLOAD_BYTES + 1 })), 'frame-too-big'],
    ['a payload of 4 GiB', encoded(write({ storedLength: 0xffff_ffff })), 'frame-too-big'],
    ['a payload in a zeroing', encoded(header({ type: FrameType.Zero, storedLength: 1 })), 'frame-too-big'],
    ['a payload in a discard', encoded(header({ type: FrameType.Discard, storedLength: 1 })), 'frame-too-big'],
    ['a payload in a flush', encoded(header({ type: FrameType.Flush, storedLength: 1 })), 'frame-too-big'],
    [
      'a msgpack body of more than 1 MiB in a record',
      encoded(header({ type: FrameType.Checkpoint, storedLength: MAX_CONTROL_BYTES + 1 })),
      'frame-too-big',
    ],
    [
      'a body of more than 1 MiB in a control frame',
      encoded(header({ type: FrameType.Hello, number: 0, storedLength: MAX_CONTROL_BYTES + 1 })),
      'frame-too-big',
    ],
    ['a record without a number', encoded(write({ number: 0 })), 'frame-field'],
    ['a number beyond 2^53', forged(write(), (bytes) => bytes.writeUInt32LE(0x20_0000, 36)), 'frame-field'],
    ['an offset beyond 2^53', forged(write(), (bytes) => bytes.writeUInt32LE(0xffff_ffff, 44)), 'frame-field'],
    ['a range that ends beyond 2^53', encoded(write({ offset: Number.MAX_SAFE_INTEGER - 100 })), 'frame-field'],
  ])('%s is refused', (_what, bytes, code) => {
    expect(codeOf(bytes)).toBe(code);
  });

  test.each<[string, FrameHeader]>([
    ['a write of 32 MiB', write({ storedLength: MAX_PAYLOAD_BYTES, length: MAX_PAYLOAD_BYTES })],
    ['a compressed write', write({ compression: 2, storedLength: 17, storedChecksum: 1, rawChecksum: 2 })],
    ['a discard of a whole volume', header({ type: FrameType.Discard, length: 2 ** 46 })],
    ['a decision, which has no number', header({ type: FrameType.Decision, number: 0, storedLength: 100 })],
    ['the largest number', write({ number: Number.MAX_SAFE_INTEGER })],
  ])('%s is taken', (_what, made) => {
    expect(codeOf(encoded(made))).toBe('accepted');
  });

  test('a trailer of another frame, and one without its magic, are refused', () => {
    const bytes = Buffer.alloc(8);
    encodeTrailer(5, bytes, 0);
    expect(() => checkTrailer(bytes, 0, 6)).toThrow(/closing magic/);
    bytes.writeUInt8(0, 0);
    expect(() => checkTrailer(bytes, 0, 5)).toThrow(/closing magic/);
  });

  test('a line that was decoded does not change what was encoded, nor the buffer it came from', () => {
    const bytes = encoded(write());
    const one = new FrameHeader();
    const other = new FrameHeader();
    decodeHeader(bytes, 0, one);
    decodeHeader(encoded(write({ line: Buffer.alloc(16, 9) })), 0, other);
    expect(Buffer.from(one.line)).toEqual(LINE);
    decodeHeader(encoded(write({ line: Buffer.alloc(16, 9) })), 0, one);
    expect(bytes.subarray(16, 32)).toEqual(LINE);
    expect(LINE.toString('hex')).toBe('00112233445566778899aabbccddeeff');
  });
});

function fields(of: FrameHeader): Record<string, unknown> {
  return {
    type: of.type,
    flags: of.flags,
    volume: of.volume,
    compression: of.compression,
    storedLength: of.storedLength,
    line: Buffer.from(of.line).toString('hex'),
    number: of.number,
    offset: of.offset,
    length: of.length,
    agentTimeUs: of.agentTimeUs,
    storedChecksum: of.storedChecksum,
    rawChecksum: of.rawChecksum,
    tag: of.tag,
    previousChecksum: of.previousChecksum,
    headerChecksum: of.headerChecksum,
  };
}
