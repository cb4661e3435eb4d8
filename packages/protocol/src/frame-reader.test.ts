import { CountedSlab, ProtocolFault } from '@rephub/platform';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrameHeader, FrameType, HEADER_BYTES } from './frame.js';
import { FrameReader, payloadOf } from './frame-reader.js';
import { encodeControl } from './messages.js';
import { RecordEncoder } from './record-encoder.js';

const LINE = Buffer.alloc(16, 5);

function frame(encoder: RecordEncoder, payload: Buffer): Buffer {
  encoder.encode(FrameType.Write, 0, 0, 0, payload.length, 1, 0, [payload]);
  return Buffer.concat([encoder.head, payload, encoder.tail]);
}

interface Got {
  readonly number: number;
  readonly raw: Buffer[];
}

function collect(): { reader: FrameReader; got: Got[] } {
  const got: Got[] = [];
  const reader = new FrameReader({ frame: (header, raw) => got.push({ number: header.number, raw: [...raw] }) });
  return { reader, got };
}

describe('frame reader', () => {
  test('a frame that lies in one chunk is handed on as a view of it, without a copy', () => {
    const { reader, got } = collect();
    const encoder = new RecordEncoder(LINE, 1, 0);
    const chunk = Buffer.concat([frame(encoder, Buffer.alloc(100, 1)), frame(encoder, Buffer.alloc(2000, 2))]);
    reader.push(chunk);
    expect(got.map((each) => each.raw.length)).toEqual([1, 1]);
    expect(got[1]?.raw[0]?.buffer).toBe(chunk.buffer);
    expect(Buffer.concat(got.flatMap((each) => each.raw))).toEqual(chunk);
  });

  test('large pieces are handed on as they came, small ones are put together', () => {
    const { reader, got } = collect();
    const bytes = frame(new RecordEncoder(LINE, 1, 0), Buffer.alloc(100_000, 1));
    const cuts = [0, 10, 50, 88, 95, 60_000, 60_001, 60_400, 100_090, 100_096];
    const pieces = cuts.slice(1).map((end, index) => Buffer.from(bytes.subarray(cuts[index], end)));
    for (const piece of pieces) reader.push(piece);
    expect(got).toHaveLength(1);
    expect(got[0]?.raw.map((slice) => slice.length)).toEqual([95, 59_905, 400, 39_690, 6]);
    expect(got[0]?.raw[1]?.buffer).toBe(pieces[4]?.buffer);
    expect(Buffer.concat(got[0]?.raw ?? [])).toEqual(bytes);
  });

  test('counted chunks may be overwritten as soon as nobody holds them, however the stream is cut', () => {
    const sizes = fc.array(fc.constantFrom(0, 1, 150, 5_000, 70_000, 700_000, 3_000_000), {
      minLength: 1,
      maxLength: 8,
    });
    const steps = fc.array(fc.constantFrom(1, 7, 88, 4_096, 65_536, 262_144), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(sizes, steps, (payloads, lengths) => {
        const encoder = new RecordEncoder(LINE, 1, 0);
        const frames = payloads.map((bytes, index) => frame(encoder, Buffer.alloc(bytes + 1, index + 1)));
        const all = Buffer.concat(frames);
        const got: Buffer[] = [];
        const reader = new FrameReader({ frame: (_header, raw) => got.push(Buffer.concat(raw)) });
        const slabs: CountedSlab[] = [];
        let turn = 0;
        for (let at = 0; at < all.length;) {
          // Single bytes only for a while: the streams are long.
          const wanted = turn > 300 ? 65_536 : (lengths[turn % lengths.length] ?? 1);
          const slab = new CountedSlab(Math.min(wanted, all.length - at), ({ memory }) => memory.fill(0xee));
          slabs.push(slab);
          all.copy(slab.memory, 0, at);
          reader.push(slab.memory);
          slab.release();
          at += slab.memory.length;
          turn++;
        }
        expect(got.length).toBe(frames.length);
        for (const [index, bytes] of got.entries()) expect(bytes.equals(frames[index] ?? Buffer.alloc(0))).toBe(true);
        // The stream ends with a frame: nothing is held for another one.
        expect(slabs.filter(({ holds }) => holds > 0)).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  test('what is left of an unfinished frame is held, what was handed over is not', () => {
    const encoder = new RecordEncoder(LINE, 1, 0);
    const all = Buffer.concat([frame(encoder, Buffer.alloc(3_000, 1)), frame(encoder, Buffer.alloc(5_000, 2))]);
    const { reader } = collect();
    const slabs = [all.subarray(0, 2_000), all.subarray(2_000, 5_000), all.subarray(5_000)].map((bytes) => {
      const slab = new CountedSlab(bytes.length, () => undefined);
      bytes.copy(slab.memory);
      return slab;
    });
    const holdsAfterEach = slabs.map((slab) => {
      reader.push(slab.memory);
      slab.release();
      return slabs.map(({ holds }) => holds);
    });
    expect(holdsAfterEach).toEqual([
      [1, 1, 1],
      [0, 1, 1],
      [0, 0, 0],
    ]);
  });

  test('what was handed on is not touched by what comes later, however it is cut', () => {
    const { reader, got } = collect();
    const encoder = new RecordEncoder(LINE, 1, 0);
    const frames = Array.from({ length: 300 }, (_, index) => frame(encoder, Buffer.alloc(150, index)));
    const all = Buffer.concat(frames);
    for (let at = 0; at < all.length; at += 7) reader.push(Buffer.from(all.subarray(at, at + 7)));
    expect(got.map((each) => Buffer.concat(each.raw))).toEqual(frames);
  });

  test('a frame dripped in byte by byte is held in a bounded number of slices', () => {
    let most = 0;
    const bytes = frame(new RecordEncoder(LINE, 1, 0), Buffer.alloc(200_000, 1));
    const reader = new FrameReader({ frame: (_header, raw) => (most = raw.length) });
    for (let at = 0; at < bytes.length; at += 1) reader.push(bytes.subarray(at, at + 1));
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(20);
  });

  test('it says whether it stands between frames, and whether inside a payload', () => {
    const { reader } = collect();
    const bytes = frame(new RecordEncoder(LINE, 1, 0), Buffer.alloc(1000));
    const states: string[] = [];
    for (const [from, to] of [
      [0, 1],
      [1, HEADER_BYTES],
      [HEADER_BYTES, 500],
      [500, 1088],
      [1088, 1096],
    ]) {
      reader.push(bytes.subarray(from, to));
      states.push(reader.atBoundary ? 'between' : reader.insidePayload ? 'payload' : 'within');
    }
    expect(states).toEqual(['within', 'payload', 'payload', 'within', 'between']);
  });

  test('a payload that does not match its checksum is refused before its frame is handed on', () => {
    const { reader, got } = collect();
    const bytes = frame(new RecordEncoder(LINE, 77, 0), Buffer.alloc(1000));
    bytes.writeUInt8(1, 500);
    expect(() => reader.push(bytes)).toThrow(expect.objectContaining({ code: 'payload-checksum' }) as ProtocolFault);
    expect(got).toEqual([]);
  });

  test('after a fault it takes nothing any more', () => {
    const { reader } = collect();
    expect(() => reader.push(Buffer.alloc(100))).toThrow(ProtocolFault);
    expect(() => reader.push(encodeControl(FrameType.Bye, { reason: '' }))).toThrow(
      expect.objectContaining({ code: 'frame-after-fault' }) as ProtocolFault,
    );
  });

  test('after stop no frame is handed over, not one of the chunk at hand either', () => {
    const numbers: number[] = [];
    const reader: FrameReader = new FrameReader({
      frame: (header) => {
        numbers.push(header.number);
        reader.stop();
      },
    });
    const encoder = new RecordEncoder(LINE, 1, 0);
    const chunk = Buffer.concat([frame(encoder, Buffer.alloc(10)), frame(encoder, Buffer.alloc(10))]);
    reader.push(chunk);
    reader.push(chunk);
    expect(numbers).toEqual([1]);
  });

  test('an empty chunk changes nothing', () => {
    const { reader, got } = collect();
    reader.push(Buffer.alloc(0));
    expect(reader.atBoundary).toBe(true);
    reader.push(frame(new RecordEncoder(LINE, 1, 0), Buffer.alloc(10)));
    expect(got).toHaveLength(1);
  });
});

describe('payloadOf', () => {
  test('gives the payload, however the frame is sliced', () => {
    const payload = Buffer.from('the payload of this record');
    const encoder = new RecordEncoder(LINE, 1, 0);
    const bytes = frame(encoder, payload);
    const header = new FrameHeader();
    header.storedLength = payload.length;
    for (let first = 0; first <= bytes.length; first += 1) {
      for (let second = first; second <= bytes.length; second += 5) {
        const raw = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
        expect(Buffer.concat(payloadOf(header, raw))).toEqual(payload);
      }
    }
  });
});
