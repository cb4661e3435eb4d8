/**
 * Servers that cut, stall and lie, at every step of the negotiation and every byte of what they answer, in each
 * framing. Whatever they do: every request comes back once, with the right data or as lost, within its time limit;
 * the connection is given up; nothing is thrown at anybody.
 */
import { Fault } from '@rephub/platform';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockRequest, Command } from '../block-device.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { connectionPair, memoryNetwork } from '../testing/memory-network.js';
import { chunk, optionReply, RawPeer, simpleReply, u16, u32, u64 } from '../testing/raw-peer.js';
import type { Framing } from '../wire/constants.js';
import type { NbdClient } from './client.js';
import { connectNbd, type ConnectNbdOptions } from './connect.js';

const FRAMINGS = ['simple', 'structured', 'extended'] as const;
const SIZE = 1024 * 1024;
const ACK = 1;
const UNSUP = 0x80000001;
const TIMEOUT_MS = 1000;
/** Longer than any limit of the client's own, the goodbye's among them. */
const LONG_MS = 12_000;

class Meeting {
  readonly clock = new ManualClock();
  readonly faults: string[] = [];
  readonly completed: BlockRequest[] = [];
  readonly taken: BlockRequest[] = [];
  client: NbdClient | null = null;
  peer: RawPeer | null = null;

  /** Connects to a server that says this, whatever it is told. */
  connect(greeting: Buffer, options: ConnectNbdOptions = {}): Promise<NbdClient | Fault> {
    const network = {
      ...memoryNetwork(),
      connect: () => {
        const [near, far] = connectionPair();
        // Who connects to it a second time is told nothing.
        if (this.peer !== null) return Promise.resolve(near);
        this.peer = new RawPeer(far);
        this.peer.send(greeting);
        return Promise.resolve(near);
      },
    };
    return connectNbd({ clock: this.clock, network }, 'nbd://here:1/disk', {
      timeoutMs: TIMEOUT_MS,
      requestTimeoutMs: TIMEOUT_MS,
      lost: (fault) => {
        this.faults.push(fault.code);
        this.taken.push(...(this.client?.takeUnfinished() ?? []));
      },
      ...options,
    }).then(
      (client) => {
        this.client = client;
        return client;
      },
      (error: unknown) => {
        if (error instanceof Fault) return error;
        throw error;
      },
    );
  }

  submit(command: Command, offset: number, length: number): BlockRequest {
    const request = new BlockRequest({ completed: (one) => void this.completed.push(one) });
    request.command = command;
    request.offset = offset;
    request.length = length;
    if (command === Command.Write) request.data = [Buffer.alloc(length, 1)];
    if (command === Command.BlockStatus) request.contexts = ['base:allocation'];
    this.client?.submit(request);
    return request;
  }
}

/** What a good server answers to each step of our client, one buffer for a step. */
function stepsOf(framing: Framing): Buffer[] {
  const size = Buffer.concat([u16(0), u64(SIZE), u16(0x65)]);
  return [
    Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)]),
    optionReply(11, framing === 'extended' ? ACK : UNSUP),
    ...(framing === 'extended' ? [] : [optionReply(8, framing === 'structured' ? ACK : UNSUP)]),
    ...(framing === 'simple' ? [] : [optionReply(10, 4, u32(1), Buffer.from('base:allocation')), optionReply(10, ACK)]),
    optionReply(7, 3, size),
    optionReply(7, 3, u16(3), u32(1), u32(4096), u32(SIZE)),
    optionReply(7, 3, u16(2), Buffer.from('a disk')),
    optionReply(7, ACK),
  ];
}

const DATA = Buffer.from(Array.from({ length: 24 }, (_, index) => index + 1));

/** The answers to the requests of `ask`, whose cookies are 0, 1, …; the first is to the read. */
function answersOf(framing: Framing): Buffer[] {
  if (framing === 'simple') return [simpleReply(0, 0, DATA), simpleReply(1), simpleReply(2)];
  const make = (type: number, cookie: number, flags: number, offset: number, body = Buffer.alloc(0)): Buffer =>
    framing === 'structured'
      ? chunk(type, cookie, flags, body)
      : Buffer.concat([u32(0x6e8a278c), u16(flags), u16(type), u64(cookie), u64(offset), u64(body.length), body]);
  const status =
    framing === 'structured'
      ? make(5, 3, 1, 0, Buffer.concat([u32(1), u32(4096), u32(0), u32(8192), u32(3)]))
      : make(6, 3, 1, 0, Buffer.concat([u32(1), u32(2), ...[4096, 0, 8192, 3].map(u64)]));
  return [
    Buffer.concat([
      make(2, 0, 0, 100, Buffer.concat([u64(108), u32(8)])),
      make(1, 0, 0, 100, Buffer.concat([u64(100), DATA.subarray(0, 8)])),
      make(1, 0, 1, 100, Buffer.concat([u64(116), DATA.subarray(16)])),
    ]),
    framing === 'structured' ? simpleReply(1) : make(0, 1, 1, 0),
    make(0, 2, 1, 0),
    status,
  ];
}

function ask(meeting: Meeting, framing: Framing): BlockRequest[] {
  return [
    meeting.submit(Command.Read, 100, DATA.length),
    meeting.submit(Command.Write, 0, 100),
    meeting.submit(Command.Flush, 0, 0),
    ...(framing === 'simple' ? [] : [meeting.submit(Command.BlockStatus, 0, 12_288)]),
  ];
}

const expectedData = (framing: Framing): Buffer => (framing === 'simple' ? DATA : Buffer.from(DATA).fill(0, 8, 16));

async function started(framing: Framing): Promise<{ meeting: Meeting; requests: BlockRequest[] }> {
  const meeting = new Meeting();
  const client = await meeting.connect(Buffer.concat(stepsOf(framing)));
  if (client instanceof Fault) throw client;
  return { meeting, requests: ask(meeting, framing) };
}

/** Every request has come back, once, as completed or handed over. */
function expectAllBack(meeting: Meeting, requests: readonly BlockRequest[]): void {
  const back = [...meeting.completed, ...meeting.taken];
  expect(back.length).toBe(requests.length);
  expect(new Set(back).size).toBe(requests.length);
  expect(meeting.taken).toEqual(requests.filter((request) => meeting.taken.includes(request)));
}

const LIES: readonly (readonly [string, (step: Buffer) => Buffer])[] = [
  ['half of it', (step) => step.subarray(0, step.length / 2)],
  ['another magic', (step) => flip(step, 3, 0x20)],
  ['another option or greeting', (step) => flip(step, 11, 0x40)],
  ['a type nobody knows', (step) => flip(step, 14, 0x77)],
  ['an error nobody knows', (step) => (step.length < 20 ? step : Buffer.from(step).fill(0x80, 12, 13))],
  ['a length of 4 GiB', (step) => (step.length < 20 ? step : Buffer.from(step).fill(0xff, 16, 20))],
  ['a length of nothing', (step) => (step.length < 20 ? step : Buffer.from(step.subarray(0, 20)).fill(0, 16, 20))],
  ['itself twice', (step) => Buffer.concat([step, step])],
  ['nothing', () => Buffer.alloc(0)],
  ['zeroes', (step) => Buffer.alloc(step.length)],
  ['a reply of transmission', () => simpleReply(0)],
];

function flip(bytes: Buffer, at: number, mask: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped.writeUInt8(flipped.readUInt8(at) ^ mask, at);
  return flipped;
}

describe.each(FRAMINGS)('a server of %s framing', (framing) => {
  const steps = stepsOf(framing);
  const answers = answersOf(framing);
  const negotiation = Buffer.concat(steps);
  const replies = Buffer.concat(answers);
  const ends = answers.map((_, index) => Buffer.concat(answers.slice(0, index + 1)).length);

  it('that answers all this is understood', async () => {
    const { meeting, requests } = await started(framing);
    meeting.peer?.send(replies);
    await settle();
    expect(meeting.completed).toEqual(requests);
    expect(requests.map(({ error }) => error)).toEqual(requests.map(() => 0));
    expect(Buffer.concat(requests[0]?.data ?? [])).toEqual(expectedData(framing));
    if (framing !== 'simple') expect(requests[3]?.extents).toEqual([{ runs: [4096, 0, 8192, 3] }]);
  });

  it.each(LIES)('that says %s at any step of the negotiation', async (_, lie) => {
    for (const [index, step] of steps.entries()) {
      for (const then of ['goes on', 'ends', 'stalls']) {
        const meeting = new Meeting();
        const rest = then === 'goes on' ? steps.slice(index + 1) : [];
        const outcome = meeting.connect(Buffer.concat([...steps.slice(0, index), lie(step), ...rest]));
        if (then === 'ends') meeting.peer?.connection.end();
        await settle();
        meeting.clock.advance(TIMEOUT_MS);
        const met = await outcome;
        if (met instanceof Fault) expect(['link', 'protocol', 'config']).toContain(met.kind);
        else met.destroy(new Fault('link', 'done', 'the test is over'));
        meeting.clock.advance(LONG_MS);
        await settle();
        expect(meeting.peer?.isClosed).toBe(true);
        if (met instanceof Fault) expect(met.code).not.toBe('internal');
      }
    }
  });

  it.each(['ends', 'vanishes', 'stalls'])('that %s after any byte of the negotiation', async (how) => {
    for (let length = 0; length < negotiation.length; length++) {
      const meeting = new Meeting();
      const outcome = meeting.connect(negotiation.subarray(0, length));
      await settle();
      if (how === 'ends') meeting.peer?.connection.end();
      if (how === 'vanishes') meeting.peer?.connection.destroy();
      await settle();
      meeting.clock.advance(TIMEOUT_MS);
      const code = how === 'stalls' ? 'negotiation-timeout' : 'connection-ended';
      expect(await outcome).toMatchObject({ code, retryable: true });
    }
  });

  it.each(['ends', 'vanishes', 'stalls'])('that %s after any byte of its answers', async (how) => {
    for (let length = 0; length < replies.length; length++) {
      const { meeting, requests } = await started(framing);
      meeting.peer?.send(replies.subarray(0, length));
      await settle();
      const done = requests.filter((_, index) => (ends[index] ?? 0) <= length);
      expect(meeting.completed).toEqual(done);
      if (how === 'ends') meeting.peer?.connection.end();
      if (how === 'vanishes') meeting.peer?.connection.destroy();
      await settle();
      if (how === 'stalls') {
        meeting.clock.advance(TIMEOUT_MS - 1);
        expect(meeting.faults).toEqual([]);
        meeting.clock.advance(TIMEOUT_MS);
        // Before a flush is given up the server is asked on a connection of its own.
        await settle();
        meeting.clock.advance(TIMEOUT_MS);
        await settle();
      }
      const code = { ends: 'connection-ended', vanishes: 'connection-lost', stalls: 'request-timeout' }[how];
      expect(meeting.faults).toEqual([code]);
      expectAllBack(meeting, requests);
      expect(done.map(({ error }) => error)).toEqual(done.map(() => 0));
      // What is handed over carries nothing of the half answer.
      for (const one of meeting.taken) {
        expect(one.data.length).toBe(one.command === Command.Write ? 1 : 0);
        expect(one.extents).toEqual([]);
      }
    }
  });

  it.each([0x01, 0x40, 0x80, 0xff])('that flips 0x%i in any byte of its answers', async (mask) => {
    for (let at = 0; at < replies.length; at++) {
      const { meeting, requests } = await started(framing);
      meeting.peer?.send(flip(replies, at, mask));
      await settle();
      meeting.clock.advance(2 * TIMEOUT_MS);
      await settle();
      expectAllBack(meeting, requests);
      expect(meeting.faults.length).toBeLessThanOrEqual(1);
      expect(meeting.faults).not.toContain('internal');
      for (const one of meeting.completed) {
        if (one.command === Command.Read && one.error === 0) expect(Buffer.concat(one.data).length).toBe(DATA.length);
        if (one.command === Command.BlockStatus && one.error === 0) expect(one.extents.length).toBe(1);
      }
    }
  });

  it('that cuts its bytes as it likes is understood the same', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(replies.length), { maxLength: 60 }), async (cuts) => {
        const { meeting, requests } = await started(framing);
        let from = 0;
        for (const to of [...cuts.sort((one, other) => one - other), replies.length]) {
          meeting.peer?.send(replies.subarray(from, to));
          for (let turn = 0; turn < 10; turn++) await Promise.resolve();
          from = to;
        }
        await settle();
        expect(meeting.completed).toEqual(requests);
        expect(Buffer.concat(requests[0]?.data ?? [])).toEqual(expectedData(framing));
      }),
      { numRuns: 60 },
    );
  });

  it('that sends random bytes, or its answers in any order and number', async () => {
    const piece = fc.oneof(
      fc.constantFrom(...answers),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc.tuple(fc.nat(5), fc.nat(200)).map(([cookie, error]) => simpleReply(cookie, error)),
      fc
        .tuple(
          fc.constantFrom(0, 1, 2, 5, 6, 0x8001, 0x8002, 0x9999),
          fc.nat(4),
          fc.nat(1),
          fc.uint8Array({ maxLength: 40 }),
        )
        .map(([type, cookie, flags, body]) => chunk(type, cookie, flags, Buffer.from(body))),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
        const { meeting, requests } = await started(framing);
        for (const bytes of pieces) meeting.peer?.send(bytes);
        await settle();
        meeting.clock.advance(2 * TIMEOUT_MS);
        await settle();
        meeting.clock.advance(TIMEOUT_MS);
        await settle();
        expectAllBack(meeting, requests);
        expect(meeting.faults).not.toContain('internal');
      }),
      { numRuns: 200 },
    );
  });
});
