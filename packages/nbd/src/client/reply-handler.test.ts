import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockRequest, Command, CommandFlag, NbdError } from '../block-device.js';
import { chunk, simpleReply, u16, u32, u64 } from '../testing/raw-peer.js';
import type { Framing } from '../wire/constants.js';
import { ReplyReader } from '../wire/reply-reader.js';
import { InFlight } from './in-flight.js';
import { ReplyHandler } from './reply-handler.js';

class Bench {
  readonly inFlight = new InFlight();
  readonly done: BlockRequest[] = [];
  readonly reader: ReplyReader;

  constructor(framing: Framing) {
    this.reader = new ReplyReader(new ReplyHandler(this.inFlight, framing, new Map([[7, 'base:allocation']])), framing);
  }

  submit(command: Command, offset: number, length: number): { request: BlockRequest; cookie: bigint } {
    const request = new BlockRequest({ completed: (one) => void this.done.push(one) });
    request.command = command;
    request.offset = offset;
    request.length = length;
    if (command === Command.BlockStatus) request.contexts = ['base:allocation'];
    const slot = this.inFlight.add(request);
    return { request, cookie: (BigInt(this.inFlight.generationOf(slot)) << 32n) | BigInt(slot) };
  }
}

function faultOf(run: () => void): string {
  try {
    run();
    return 'none';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

const data = (offset: number, bytes: Buffer): Buffer => Buffer.concat([u64(offset), bytes]);
const hole = (offset: number, length: number): Buffer => Buffer.concat([u64(offset), u32(length)]);

describe('replies to requests in flight', () => {
  it('a simple reply brings a read its data', () => {
    const bench = new Bench('simple');
    const { request, cookie } = bench.submit(Command.Read, 100, 4);
    bench.reader.read(simpleReply(cookie, 0, Buffer.from('abcd')));
    expect(bench.done).toEqual([request]);
    expect(Buffer.concat(request.data).toString()).toBe('abcd');
  });

  it('chunks of data and holes that come in any order are put in order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ length: fc.integer({ min: 1, max: 50 }), isHole: fc.boolean() }), {
          minLength: 1,
          maxLength: 20,
        }),
        fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
        fc.nat(200),
        (pieces, order, cut) => {
          let offset = 1000;
          const expected: Buffer[] = [];
          const chunks = pieces.map(({ length, isHole }, index) => {
            const bytes = isHole ? Buffer.alloc(length) : Buffer.alloc(length, index + 1);
            expected.push(bytes);
            const body = isHole ? hole(offset, length) : data(offset, bytes);
            offset += length;
            return { key: order[index] ?? 0, type: isHole ? 2 : 1, body };
          });
          chunks.sort((one, other) => one.key - other.key);
          const bench = new Bench('structured');
          const { request, cookie } = bench.submit(Command.Read, 1000, offset - 1000);
          const stream = Buffer.concat([
            ...chunks.map(({ type, body }) => chunk(type, cookie, 0, body)),
            chunk(0, cookie, 1),
          ]);
          const at = Math.min(cut, stream.length);
          bench.reader.read(stream.subarray(0, at));
          bench.reader.read(stream.subarray(at));
          expect(bench.done).toEqual([request]);
          expect(request.error).toBe(0);
          expect(Buffer.concat(request.data).equals(Buffer.concat(expected))).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('replies of several requests may be interleaved chunk by chunk', () => {
    const bench = new Bench('structured');
    const one = bench.submit(Command.Read, 0, 4);
    const two = bench.submit(Command.Read, 0, 4);
    bench.reader.read(chunk(1, one.cookie, 0, data(0, Buffer.from('ab'))));
    bench.reader.read(chunk(1, two.cookie, 0, data(0, Buffer.from('AB'))));
    bench.reader.read(chunk(1, two.cookie, 1, data(2, Buffer.from('CD'))));
    bench.reader.read(chunk(1, one.cookie, 1, data(2, Buffer.from('cd'))));
    expect(bench.done.map(({ data: slices }) => Buffer.concat(slices).toString())).toEqual(['ABCD', 'abcd']);
  });

  it('an error chunk fails the request once its reply is done, and its data is dropped', () => {
    const bench = new Bench('structured');
    const { request, cookie } = bench.submit(Command.Read, 0, 8);
    bench.reader.read(chunk(1, cookie, 0, data(0, Buffer.from('abcd'))));
    bench.reader.read(chunk(0x8002, cookie, 0, Buffer.concat([u32(5), u16(2), Buffer.from('oh'), u64(4)])));
    expect(bench.done).toEqual([]);
    bench.reader.read(chunk(0, cookie, 1));
    expect(request.error).toBe(NbdError.Eio);
    expect(request.data).toEqual([]);
  });

  it('an unknown error chunk fails the request as well; an error nobody defined counts as EINVAL', () => {
    const bench = new Bench('structured');
    const one = bench.submit(Command.Write, 0, 8);
    bench.reader.read(chunk(0x8077, one.cookie, 1, Buffer.concat([u32(4711), u16(0)])));
    expect(one.request.error).toBe(NbdError.Einval);
    const two = bench.submit(Command.Flush, 0, 0);
    bench.reader.read(simpleReply(two.cookie, 5));
    expect(two.request.error).toBe(NbdError.Eio);
  });

  it('block status comes back by the name of its context', () => {
    const bench = new Bench('structured');
    const { request, cookie } = bench.submit(Command.BlockStatus, 0, 100);
    bench.reader.read(chunk(5, cookie, 1, Buffer.concat([u32(7), u32(60), u32(3), u32(1000), u32(0)])));
    expect(request.extents).toEqual([{ runs: [60, 3, 1000, 0] }]);
  });

  it('extents that follow the end of the range are dropped, flags beyond 32 bits too', () => {
    const bench = new Bench('extended');
    const { request, cookie } = bench.submit(Command.BlockStatus, 0, 100);
    const extents = [60n, 0x8000_0000_0000_0003n, 100n, 0n, 100n, 3n].map(u64);
    const body = Buffer.concat([u32(7), u32(3), ...extents]);
    const header = [u32(0x6e8a278c), u16(1), u16(6), u64(cookie), u64(0), u64(body.length)];
    bench.reader.read(Buffer.concat([...header, body]));
    expect(request.extents).toEqual([{ runs: [60, 3, 100, 0] }]);
  });

  const read = (bench: Bench): bigint => bench.submit(Command.Read, 100, 10).cookie;
  const write = (bench: Bench): bigint => bench.submit(Command.Write, 100, 10).cookie;
  const status = (bench: Bench): bigint => bench.submit(Command.BlockStatus, 100, 10).cookie;
  const oneStatus = (bench: Bench): bigint => {
    const { request, cookie } = bench.submit(Command.BlockStatus, 100, 10);
    request.flags = CommandFlag.RequestOne;
    return cookie;
  };
  const LIES: readonly [string, Framing, string, (bench: Bench) => readonly Buffer[]][] = [
    ['a cookie of nothing in flight', 'structured', 'wrong-cookie', () => [simpleReply(4n)]],
    ['a cookie of another generation', 'structured', 'wrong-cookie', (b) => [simpleReply(write(b) + (1n << 32n))]],
    [
      'a second reply',
      'structured',
      'wrong-cookie',
      (b) => {
        const c = write(b);
        return [simpleReply(c), simpleReply(c)];
      },
    ],
    ['a structured reply that was not agreed on', 'simple', 'bad-reply-magic', (b) => [chunk(0, write(b), 1)]],
    ['a simple reply under extended headers', 'extended', 'bad-reply-magic', (b) => [simpleReply(write(b))]],
    ['garbage', 'structured', 'bad-reply-magic', () => [Buffer.from('HTTP/1.1 400 Bad Request\r\n')]],
    ['a simple reply with data', 'structured', 'bad-reply', (b) => [simpleReply(read(b), 0, Buffer.alloc(10))]],
    ['content for a write', 'structured', 'bad-reply', (b) => [chunk(1, write(b), 1, data(100, Buffer.alloc(4)))]],
    [
      'content before the request',
      'structured',
      'bad-reply',
      (b) => [chunk(1, read(b), 1, data(99, Buffer.alloc(10)))],
    ],
    [
      'content beyond the request',
      'structured',
      'bad-reply',
      (b) => [chunk(1, read(b), 1, data(105, Buffer.alloc(6)))],
    ],
    [
      'content of 4 GiB',
      'structured',
      'bad-reply',
      (b) => [chunk(1, read(b), 1, data(100, Buffer.alloc(4))).fill(0xff, 16, 20)],
    ],
    ['content of no bytes', 'structured', 'bad-chunk-length', (b) => [chunk(1, read(b), 1, u64(100))]],
    [
      'the same bytes twice',
      'structured',
      'reply-overlap',
      (b) => {
        const c = read(b);
        return [chunk(1, c, 0, data(100, Buffer.alloc(6))), chunk(1, c, 0, data(102, Buffer.alloc(4))), chunk(0, c, 1)];
      },
    ],
    [
      'more bytes than asked',
      'structured',
      'reply-overlap',
      (b) => {
        const c = read(b);
        return [chunk(1, c, 0, data(100, Buffer.alloc(6))), chunk(1, c, 0, data(100, Buffer.alloc(6)))];
      },
    ],
    [
      'fewer bytes than asked',
      'structured',
      'reply-incomplete',
      (b) => [chunk(1, read(b), 1, data(100, Buffer.alloc(6)))],
    ],
    [
      'a gap',
      'structured',
      'reply-incomplete',
      (b) => {
        const c = read(b);
        return [chunk(1, c, 0, data(100, Buffer.alloc(4))), chunk(1, c, 1, data(105, Buffer.alloc(5)))];
      },
    ],
    ['success without data', 'structured', 'reply-incomplete', (b) => [chunk(0, read(b), 1)]],
    ['an empty chunk with a body', 'structured', 'bad-chunk-length', (b) => [chunk(0, read(b), 1, Buffer.alloc(1))]],
    ['an empty chunk that is not the last', 'structured', 'bad-reply', (b) => [chunk(0, write(b), 0)]],
    ['a hole of no bytes', 'structured', 'bad-reply', (b) => [chunk(2, read(b), 1, hole(100, 0))]],
    ['a hole cut short', 'structured', 'bad-chunk-length', (b) => [chunk(2, read(b), 1, Buffer.alloc(11))]],
    ['a hole beyond the request', 'structured', 'bad-reply', (b) => [chunk(2, read(b), 1, hole(100, 0xffff_ffff))]],
    ['a chunk of unknown type', 'structured', 'bad-reply', (b) => [chunk(9, read(b), 1, Buffer.alloc(1))]],
    ['an error of 0', 'structured', 'bad-reply', (b) => [chunk(0x8001, read(b), 1, Buffer.alloc(6))]],
    ['an error cut short', 'structured', 'bad-chunk-length', (b) => [chunk(0x8001, read(b), 1, Buffer.alloc(5))]],
    [
      'an error whose message is longer than itself',
      'structured',
      'bad-reply',
      (b) => [chunk(0x8001, read(b), 1, Buffer.concat([u32(5), u16(1)]))],
    ],
    [
      'an error of a megabyte',
      'structured',
      'bad-chunk-length',
      (b) => [chunk(0x8001, read(b), 1, Buffer.alloc(1 << 20))],
    ],
    ['block status for a read', 'structured', 'bad-reply', (b) => [chunk(5, read(b), 1, Buffer.alloc(12))]],
    [
      'block status of an unknown context',
      'structured',
      'bad-reply',
      (b) => [chunk(5, status(b), 1, Buffer.concat([u32(8), u32(1), u32(0)]))],
    ],
    ['block status of no extent', 'structured', 'bad-chunk-length', (b) => [chunk(5, status(b), 1, u32(7))]],
    [
      'an extent of no bytes',
      'structured',
      'bad-reply',
      (b) => [chunk(5, status(b), 1, Buffer.concat([u32(7), u32(0), u32(0)]))],
    ],
    [
      'block status of one context twice',
      'structured',
      'bad-reply',
      (b) => {
        const c = status(b);
        const extent = Buffer.concat([u32(7), u32(100), u32(0)]);
        return [chunk(5, c, 0, extent), chunk(5, c, 1, extent)];
      },
    ],
    [
      'two extents where one was asked for',
      'structured',
      'bad-reply',
      (b) => [chunk(5, oneStatus(b), 1, Buffer.concat([u32(7), u32(50), u32(0), u32(50), u32(3)]))],
    ],
    [
      'one extent longer than asked for',
      'structured',
      'bad-reply',
      (b) => [chunk(5, oneStatus(b), 1, Buffer.concat([u32(7), u32(200), u32(0)]))],
    ],
    ['block status without an answer', 'structured', 'reply-incomplete', (b) => [chunk(0, status(b), 1)]],
    ['a simple reply to block status', 'structured', 'bad-reply', (b) => [simpleReply(status(b))]],
    ['block status of the other framing', 'structured', 'bad-reply', (b) => [chunk(6, status(b), 1, Buffer.alloc(24))]],
  ];
  it.each(LIES)('%s is a fault (%s framing): %s', (_, framing, code, lie) => {
    const bench = new Bench(framing);
    expect(faultOf(() => lie(bench).forEach((bytes) => bench.reader.read(bytes)))).toBe(code);
  });

  it('a reply in thousands of crumbs is a fault before it is a burden', () => {
    const bench = new Bench('structured');
    const { cookie } = bench.submit(Command.Read, 0, 100_000);
    const crumbs = Array.from({ length: 5000 }, (_, index) => chunk(1, cookie, 0, data(index, Buffer.alloc(1))));
    expect(faultOf(() => bench.reader.read(Buffer.concat(crumbs)))).toBe('reply-fragmented');
  });

  it('any flipped bit in a stream of replies gives a fault, other bytes or an unanswered request, never more', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(60), (where, cut) => {
        const bench = new Bench('structured');
        const first = bench.submit(Command.Read, 0, 16);
        const second = bench.submit(Command.Write, 0, 16);
        const third = bench.submit(Command.BlockStatus, 0, 16);
        const stream = Buffer.concat([
          chunk(1, first.cookie, 0, data(8, Buffer.alloc(8, 2))),
          simpleReply(second.cookie),
          chunk(2, first.cookie, 1, hole(0, 8)),
          chunk(5, third.cookie, 1, Buffer.concat([u32(7), u32(16), u32(0)])),
        ]);
        const bit = where % (stream.length * 8);
        stream.writeUInt8(stream.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        try {
          bench.reader.read(stream.subarray(0, cut));
          bench.reader.read(stream.subarray(cut));
        } catch (error) {
          expect(error).toMatchObject({ kind: 'protocol' });
        }
        expect(bench.done.length).toBeLessThanOrEqual(3);
        for (const request of bench.done) {
          if (request === first.request && request.error === 0) expect(Buffer.concat(request.data).length).toBe(16);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('requests in flight', () => {
  it('hundreds of slots are used again under new generations, and all come back in order', () => {
    const bench = new Bench('simple');
    const cookies = Array.from({ length: 300 }, (_, index) => bench.submit(Command.Write, index, 1).cookie);
    for (const cookie of cookies.slice(0, 200)) bench.reader.read(simpleReply(cookie));
    const again = Array.from({ length: 200 }, (_, index) => bench.submit(Command.Write, 1000 + index, 1).cookie);
    expect(new Set([...cookies, ...again]).size).toBe(500);
    const left = bench.inFlight.removeAll().map(({ offset }) => offset);
    expect(left).toEqual([
      ...Array.from({ length: 100 }, (_, i) => 200 + i),
      ...Array.from({ length: 200 }, (_, i) => 1000 + i),
    ]);
    expect(bench.inFlight.count).toBe(0);
  });
});
