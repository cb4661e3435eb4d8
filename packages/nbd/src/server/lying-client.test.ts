/**
 * Clients that cut, stall and lie, at every byte of a whole session in each framing. Whatever they do: what was asked
 * whole is answered, what was not is not, nothing stays open, and nothing of it is taken for a bug of ours.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryDevice } from '../memory-device.js';
import { settle } from '../testing/manual-clock.js';
import { counted, option, optionReply, request, u16, u32, wideRequest } from '../testing/raw-peer.js';
import { infoOption, meet, type Meeting, metaOption, SIZE } from '../testing/server-meeting.js';

const FRAMINGS = ['simple', 'structured', 'extended'] as const;
type Framing = (typeof FRAMINGS)[number];
const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const PAYLOAD = Buffer.alloc(24, 7);
const DISCONNECT = 0xff;

interface Session {
  /** What the client says after its flags, in parts: options, then requests. */
  readonly options: readonly Buffer[];
  readonly requests: readonly Buffer[];
}

function sessionOf(framing: Framing): Session {
  const make = (type: number, cookie: number, offset: number, length: number, payload?: Buffer): Buffer =>
    framing === 'extended'
      ? wideRequest(type, cookie, offset, length, payload === undefined ? 0 : 32, payload)
      : request(type, cookie, offset, length, 0, payload);
  const requests = [
    make(WRITE, 1, 100, PAYLOAD.length, PAYLOAD),
    make(READ, 2, 96, 40),
    make(READ, 3, SIZE - 1, 2),
    make(WRITE, 4, SIZE - 1, PAYLOAD.length, PAYLOAD),
    make(FLUSH, 5, 0, 0),
    make(ZERO, 6, 0, 65_536),
    make(TRIM, 7, 0, 65_536),
    make(CACHE, 8, 0, 512),
    make(DISC, DISCONNECT, 0, 0),
  ];
  if (framing !== 'simple') requests.splice(5, 0, make(STATUS, 9, 0, SIZE));
  return {
    options: [
      ...(framing === 'simple' ? [] : [option(framing === 'structured' ? 8 : 11)]),
      ...(framing === 'simple' ? [] : [metaOption(10, 'disk', 'base:allocation')]),
      infoOption(6, 'disk', 1, 3),
      option(3),
      infoOption(7, 'disk'),
    ],
    requests,
  };
}

/** The cookies of whole replies, errors and successes alike; throws when what was sent is anything else. */
function cookiesOf(bytes: Buffer, framing: Framing): number[] {
  const cookies: number[] = [];
  let at = 0;
  while (at < bytes.length) {
    const magic = bytes.readUInt32BE(at);
    if (magic === 0x67446698 && framing !== 'extended') {
      const cookie = Number(bytes.readBigUInt64BE(at + 8));
      cookies.push(cookie);
      at += 16 + (framing === 'simple' && cookie === 2 && bytes.readUInt32BE(at + 4) === 0 ? 40 : 0);
    } else if (magic === 0x668e33ef && framing === 'structured') {
      if (bytes.readUInt16BE(at + 4) === 1) cookies.push(Number(bytes.readBigUInt64BE(at + 8)));
      at += 20 + bytes.readUInt32BE(at + 16);
    } else if (magic === 0x6e8a278c && framing === 'extended') {
      if (bytes.readUInt16BE(at + 4) === 1) cookies.push(Number(bytes.readBigUInt64BE(at + 8)));
      at += 32 + Number(bytes.readBigUInt64BE(at + 24));
    } else throw new Error(`no reply of ${framing} framing at ${at}: 0x${magic.toString(16)}`);
  }
  if (at !== bytes.length) throw new Error(`a reply is cut at ${bytes.length}`);
  return cookies;
}

async function begin(): Promise<Meeting> {
  const meeting = await meet();
  meeting.directory.device = memoryDevice(SIZE);
  return meeting;
}

/** Nothing of the client is left, and nothing of what it did counts as our fault. */
async function expectNothingLeft(meeting: Meeting): Promise<void> {
  meeting.clock.advance(60_000);
  await settle();
  expect(meeting.server.clients()).toEqual([]);
  expect(meeting.directory.open_).toBe(0);
  expect(meeting.faults.filter(({ code }) => code === 'internal')).toEqual([]);
}

describe.each(FRAMINGS)('a client of %s framing', (framing) => {
  const session = sessionOf(framing);
  const haggling = Buffer.concat(session.options);
  const talk = Buffer.concat(session.requests);
  /** Where each request ends in `talk`. */
  const ends = session.requests.map((_, index) => Buffer.concat(session.requests.slice(0, index + 1)).length);
  const cookies = session.requests.map((one) => Number(one.readBigUInt64BE(8)));

  async function negotiated(): Promise<Meeting> {
    const meeting = await begin();
    meeting.peer.send(haggling);
    await settle();
    meeting.peer.take();
    return meeting;
  }

  it('that says all this is answered in full', async () => {
    const meeting = await negotiated();
    meeting.peer.send(talk);
    await settle();
    expect(cookiesOf(meeting.peer.take(), framing)).toEqual(cookies.filter((cookie) => cookie !== DISCONNECT));
    expect([meeting.peer.isEnded, meeting.faults]).toEqual([true, []]);
    await expectNothingLeft(meeting);
  });

  it.each(['ends', 'vanishes', 'stalls'])(
    'that %s after any byte of its negotiation leaves nothing open',
    async (how) => {
      for (let length = 0; length < haggling.length; length++) {
        const meeting = await begin();
        meeting.peer.send(haggling.subarray(0, length));
        await settle();
        if (how === 'ends') meeting.peer.connection.end();
        if (how === 'vanishes') meeting.peer.connection.destroy();
        meeting.clock.advance(29_999);
        await settle();
        expect(meeting.peer.isClosed).toBe(how !== 'stalls');
        await expectNothingLeft(meeting);
        expect(meeting.faults.map(({ code }) => code)).toEqual([
          how === 'stalls' ? 'negotiation-timeout' : 'negotiation-cut',
        ]);
        expect(meeting.peer.isClosed).toBe(true);
      }
    },
  );

  it.each(['ends', 'vanishes', 'stalls'])(
    'that %s after any byte of a request: whole requests are answered',
    async (how) => {
      for (let length = 0; length < talk.length; length++) {
        const meeting = await negotiated();
        meeting.peer.send(talk.subarray(0, length));
        await settle();
        if (how === 'ends') meeting.peer.connection.end();
        if (how === 'vanishes') meeting.peer.connection.destroy();
        await settle();
        const answered = cookies.filter((_, index) => (ends[index] ?? 0) <= length);
        const isAtBoundary = length === 0 || ends.includes(length);
        expect(cookiesOf(meeting.peer.take(), framing)).toEqual(answered);
        if (how === 'stalls') {
          // Not our affair for how long, but it must not hold up a server that closes.
          expect(meeting.server.clients()).toMatchObject([{ requestsInFlight: 0 }]);
          const closed = meeting.server.close(5_000);
          meeting.clock.advance(5_000);
          await closed;
        } else {
          const isFault = !isAtBoundary;
          expect(meeting.faults.map(({ code }) => code)).toEqual(isFault ? ['request-cut'] : []);
        }
        await expectNothingLeft(meeting);
      }
    },
  );

  it.each([0x01, 0x80, 0xff])('that flips 0x%i in any byte of its negotiation leaves nothing open', async (mask) => {
    for (let at = 0; at < haggling.length; at++) {
      const meeting = await begin();
      const lie = Buffer.from(haggling);
      lie.writeUInt8(lie.readUInt8(at) ^ mask, at);
      meeting.peer.send(lie, talk);
      await settle();
      await expectNothingLeft(meeting.peer.isClosed ? meeting : await ended(meeting));
    }
  });

  it.each([0x01, 0x80, 0xff])('that flips 0x%i in any byte of a request is answered or ended', async (mask) => {
    for (let at = 0; at < talk.length; at++) {
      const meeting = await negotiated();
      const lie = Buffer.from(talk);
      lie.writeUInt8(lie.readUInt8(at) ^ mask, at);
      meeting.peer.send(lie);
      await settle();
      await expectNothingLeft(meeting.peer.isClosed ? meeting : await ended(meeting));
    }
  });

  it('is answered the same however its bytes are cut', async () => {
    const whole = await begin();
    whole.peer.send(haggling, talk);
    await settle();
    const wanted = whole.peer.take();
    const all = Buffer.concat([haggling, talk]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(all.length), { maxLength: 40 }), async (cuts) => {
        const meeting = await begin();
        let from = 0;
        for (const to of [...cuts.sort((one, other) => one - other), all.length]) {
          meeting.peer.send(all.subarray(from, to));
          for (let turn = 0; turn < 20; turn++) await Promise.resolve();
          from = to;
        }
        await settle();
        expect(meeting.peer.take().equals(wanted)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

async function ended(meeting: Meeting): Promise<Meeting> {
  meeting.peer.connection.end();
  await settle();
  return meeting;
}

describe('a client', () => {
  it('that sends random bytes, or options and requests in any order, leaves nothing open', async () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(fc.integer({ min: 0, max: 13 }), fc.uint8Array({ maxLength: 40 }))
        .map(([type, data]) => option(type, Buffer.from(data))),
      fc.constantFrom(option(8), option(11), infoOption(6, 'disk', 3), metaOption(10, 'disk', 'base:allocation')),
      fc.constant(option(6, counted('disk'), u16(1), u16(99))),
      fc
        .tuple(fc.nat(9), fc.nat(63), fc.nat(2 * SIZE), fc.nat(4096))
        .map(([type, flags, offset, length]) => request(type, 1, offset, length, flags)),
      fc
        .tuple(fc.nat(9), fc.nat(63), fc.nat(2 * SIZE), fc.nat(4096))
        .map(([type, flags, offset, length]) => wideRequest(type, 1, offset, length, flags)),
      fc.constant(infoOption(7, 'disk')),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 15 }), async (pieces) => {
        const meeting = await begin();
        for (const bytes of pieces) {
          meeting.peer.send(bytes);
          for (let turn = 0; turn < 30; turn++) await Promise.resolve();
        }
        await settle();
        await expectNothingLeft(meeting.peer.isClosed ? meeting : await ended(meeting));
      }),
      { numRuns: 200 },
    );
  });

  it("that speaks a server's part is ended", async () => {
    const meeting = await begin();
    meeting.peer.send(optionReply(7, 1), u32(0));
    await settle();
    expect(meeting.faults.map(({ code }) => code)).toEqual(['bad-option-magic']);
    await expectNothingLeft(meeting);
  });
});
