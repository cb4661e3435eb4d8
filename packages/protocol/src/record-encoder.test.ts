import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decodeHeader, FrameFlag, FrameHeader, FrameType, HEADER_BYTES, TRAILER_BYTES } from './frame.js';
import { FrameReader } from './frame-reader.js';
import { chainStart } from './messages.js';
import { RecordEncoder } from './record-encoder.js';

const LINE = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

function decode(bytes: Buffer): FrameHeader[] {
  const headers: FrameHeader[] = [];
  const reader = new FrameReader({
    frame: (_header, raw) => {
      const header = new FrameHeader();
      decodeHeader(Buffer.concat(raw), 0, header);
      headers.push(header);
    },
  });
  reader.push(bytes);
  expect(reader.atBoundary).toBe(true);
  return headers;
}

describe('record encoder', () => {
  test('records are numbered in a row, each naming the checksum of the one before it, the first that of the line', () => {
    const encoder = new RecordEncoder(LINE, 1, chainStart(LINE));
    const parts: Buffer[] = [];
    const sums: number[] = [];
    for (let count = 1; count <= 5; count += 1) {
      const payload = [Buffer.alloc(1000, count), Buffer.alloc(500, 9)];
      expect(encoder.encode(FrameType.Write, FrameFlag.Copied, 3, 4096 * count, 1500, 77, 0, payload)).toBe(count);
      parts.push(encoder.head, ...payload, encoder.tail);
      sums.push(encoder.lastChecksum);
    }
    const headers = decode(Buffer.concat(parts));
    expect(headers.map((header) => header.number)).toEqual([1, 2, 3, 4, 5]);
    expect(headers.map((header) => header.headerChecksum)).toEqual(sums);
    expect(headers.map((header) => header.previousChecksum)).toEqual([crc32(LINE), ...sums.slice(0, 4)]);
    expect(headers[1]).toMatchObject({
      type: FrameType.Write,
      flags: FrameFlag.Copied,
      volume: 3,
      offset: 8192,
      length: 1500,
    });
    expect(Buffer.from(headers[1]?.line ?? [])).toEqual(LINE);
    expect(encoder.nextNumber).toBe(6);
  });

  test('a record without payload is one slice', () => {
    const encoder = new RecordEncoder(LINE, 9, 1);
    encoder.encode(FrameType.Discard, 0, 0, 1 << 20, 2 ** 45, 5, 42, []);
    expect([encoder.head.length, encoder.tail.length]).toEqual([HEADER_BYTES + TRAILER_BYTES, 0]);
    expect(decode(encoder.head)[0]).toMatchObject({ number: 9, length: 2 ** 45, tag: 42, previousChecksum: 1 });
  });

  test('agent time never goes back, though the clock does', () => {
    const encoder = new RecordEncoder(LINE, 1, 0);
    const times = [100, 50, 100, 101, 3].map((time) => {
      encoder.encode(FrameType.Flush, 0, 0, 0, 0, time, 0, []);
      return decode(encoder.head)[0]?.agentTimeUs;
    });
    expect(times).toEqual([100, 100, 100, 101, 101]);
  });

  test('bytes that were handed out are never written again, over many slabs', () => {
    const encoder = new RecordEncoder(LINE, 1, 0);
    const payload = Buffer.alloc(64, 1);
    const kept: Buffer[] = [];
    for (let count = 0; count < 3_000; count += 1) {
      encoder.encode(FrameType.Write, 0, 0, 0, 64, 1, 0, [payload]);
      kept.push(encoder.head, payload, encoder.tail);
    }
    expect(decode(Buffer.concat(kept)).map((header) => header.number)).toEqual(
      Array.from({ length: 3_000 }, (_, index) => index + 1),
    );
  });

  test('numbers skip forward, never back', () => {
    const encoder = new RecordEncoder(LINE, 5, 1);
    encoder.encode(FrameType.Flush, 0, 0, 0, 0, 1, 0, []);
    encoder.skipTo(100, 0xbeef);
    expect(encoder.encode(FrameType.SpanEnd, 0, 0, 0, 0, 1, 0, [])).toBe(100);
    expect(decode(encoder.head)[0]).toMatchObject({ number: 100, previousChecksum: 0xbeef });
    expect(() => encoder.skipTo(100, 0)).toThrow(/was given before/);
  });

  test('a write whose payload is not its length is a bug that is found here', () => {
    const encoder = new RecordEncoder(LINE, 5, 1);
    expect(() => encoder.encode(FrameType.Write, 0, 0, 0, 100, 1, 0, [Buffer.alloc(99)])).toThrow(/write of 100 bytes/);
    expect(encoder.nextNumber).toBe(5);
  });
});
