import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { request, wideRequest } from '../testing/raw-peer.js';
import { RequestReader, type RequestSink } from './request-reader.js';

interface Seen {
  type: number;
  flags: number;
  cookie: string;
  offset: number;
  length: number;
  payload: string;
}

/** Wants the payloads of even cookies only. */
class Collector implements RequestSink {
  readonly seen: Seen[] = [];
  kept = 0;
  #payload: Buffer[] = [];

  header(reader: RequestReader): boolean {
    this.#payload = [];
    return reader.cookieLow % 2 === 0;
  }

  payload(slice: Buffer): void {
    this.kept += slice.length;
    this.#payload.push(slice);
  }

  whole(reader: RequestReader): boolean {
    const { type, flags, offset, length } = reader;
    const cookie = `${reader.cookieHigh}:${reader.cookieLow}`;
    this.seen.push({ type, flags, cookie, offset, length, payload: Buffer.concat(this.#payload).toString('hex') });
    return true;
  }
}

const aRequest = fc.record({
  type: fc.constantFrom(0, 1, 3, 4, 5, 6, 7, 99),
  flags: fc.nat(31),
  cookie: fc.nat(1000),
  offset: fc.maxSafeNat(),
  length: fc.nat(0xffff_ffff),
  payload: fc.uint8Array({ maxLength: 300 }),
});

const streams = fc
  .record({ extended: fc.boolean(), requests: fc.array(aRequest, { maxLength: 12 }) })
  .map(({ extended, requests }) => ({
    extended,
    bytes: Buffer.concat(
      requests.map(({ type, flags, cookie, offset, length, payload }) => {
        const data = type === 1 ? Buffer.from(payload) : Buffer.alloc(0);
        const bytes = type === 1 ? payload.length : length;
        return extended
          ? wideRequest(type, cookie, offset, bytes, type === 1 ? flags | 32 : flags, data)
          : request(type, cookie, offset, bytes, flags, data);
      }),
    ),
  }));

function readAll(extended: boolean, chunks: readonly Buffer[]): Collector {
  const collector = new Collector();
  const reader = new RequestReader(collector, extended);
  for (const chunk of chunks) expect(reader.read(chunk, 0)).toBe(chunk.length);
  return collector;
}

function cutAt(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set(cuts.map((cut) => (bytes.length === 0 ? 0 : cut % bytes.length)))].sort((a, b) => a - b);
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
}

describe('request reader', () => {
  it('any chunking of a stream gives the same requests', () => {
    fc.assert(
      fc.property(streams, fc.array(fc.nat(10_000), { maxLength: 40 }), ({ extended, bytes }, cuts) => {
        const whole = readAll(extended, [bytes]).seen;
        expect(readAll(extended, cutAt(bytes, cuts)).seen).toEqual(whole);
        expect(
          readAll(
            extended,
            Array.from(bytes, (_, at) => bytes.subarray(at, at + 1)),
          ).seen,
        ).toEqual(whole);
      }),
      { numRuns: 200 },
    );
  });

  it('any flipped bit gives other requests or a fault, and never takes memory for what has not come', () => {
    fc.assert(
      fc.property(streams, fc.nat(), ({ extended, bytes }, where) => {
        fc.pre(bytes.length > 0);
        const flipped = Buffer.from(bytes);
        const bit = where % (bytes.length * 8);
        flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const collector = new Collector();
        const reader = new RequestReader(collector, extended);
        try {
          reader.read(flipped, 0);
        } catch (error) {
          expect(error).toMatchObject({ kind: 'protocol' });
        }
        expect(collector.kept).toBeLessThanOrEqual(flipped.length);
      }),
      { numRuns: 400 },
    );
  });

  it('stops where the sink says so and goes on from there', () => {
    const bytes = Buffer.concat([
      request(3, 1, 0, 0),
      request(1, 2, 5, 4, 0, Buffer.from('abcd')),
      request(3, 3, 0, 0),
    ]);
    const seen: number[] = [];
    const reader: RequestReader = new RequestReader(
      { header: () => true, payload: () => undefined, whole: () => seen.push(reader.cookieLow) > 100 },
      false,
    );
    expect(reader.read(bytes, 0)).toBe(28);
    expect(reader.read(bytes, 28)).toBe(60);
    expect(reader.atBoundary).toBe(true);
    expect(reader.read(bytes, 60)).toBe(88);
    expect(seen).toEqual([1, 2, 3]);
  });

  it('garbage is noticed by its first four bytes', () => {
    const reader = new RequestReader(new Collector(), false);
    expect(reader.read(Buffer.from([0x25]), 0)).toBe(1);
    expect(() => reader.read(Buffer.from([0x60, 0x95, 0x14]), 0)).toThrow(/begins with 0x25609514/);
  });

  it('an extended request that claims a payload beyond 4 GiB is a fault', () => {
    const reader = new RequestReader(new Collector(), true);
    expect(() => reader.read(wideRequest(1, 0, 0, 2 ** 32, 32), 0)).toThrow(
      expect.objectContaining({ code: 'payload-too-long' }),
    );
  });

  it('an offset beyond every safe integer stays beyond every device', () => {
    const collector = new Collector();
    new RequestReader(collector, false).read(request(0, 1, 0xffff_ffff_ffff_ffffn, 1), 0);
    expect(collector.seen[0]?.offset).toBeGreaterThan(Number.MAX_SAFE_INTEGER);
  });
});
