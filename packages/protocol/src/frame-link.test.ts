import { type Connection, type Fault, LinkFault, ProtocolFault, StorageFault } from '@rephub/platform';
import { SimClock, type SimLink, SimNetwork } from '@rephub/platform/sim';
import { beforeEach, describe, expect, test } from 'vitest';
import { FrameLink, type FrameLinkOptions, type LinkHandlers } from './frame-link.js';
import { type FrameHeader, FrameType } from './frame.js';
import { type Ack, type Beat, encodeControl, type Refuse } from './messages.js';
import { RecordEncoder } from './record-encoder.js';

const ADDRESS = { kind: 'tcp', host: 'hub', port: 9010 } as const;
const LINE = Buffer.alloc(16, 5);

/** One side, with all that it was told. */
class Side {
  readonly link: FrameLink;
  readonly acks: Ack[] = [];
  readonly beats: Beat[] = [];
  readonly refusals: Refuse[] = [];
  readonly records: { number: number; bytes: Buffer }[] = [];
  readonly closings: (Fault | null)[] = [];
  drained = 0;

  constructor(
    connection: Connection,
    clock: SimClock,
    options: Partial<FrameLinkOptions> & { also?: Partial<LinkHandlers> } = {},
  ) {
    const { also, ...rest } = options;
    this.link = new FrameLink({
      connection,
      clock,
      beat: () => ({ sentMs: clock.monotonicMs(), echoMs: null, unixMs: clock.unixMs(), report: null }),
      handlers: {
        ack: (ack) => this.acks.push(ack),
        beat: (beat) => this.beats.push(beat),
        refuse: (refuse) => this.refusals.push(refuse),
        record: (header: FrameHeader, raw: readonly Buffer[]) =>
          this.records.push({ number: header.number, bytes: Buffer.concat(raw) }),
        drained: () => (this.drained += 1),
        closed: (fault) => this.closings.push(fault),
        ...also,
      },
      ...rest,
    });
  }

  /** Why it ended: a fault's code, or `orderly`; undefined while it has not. */
  get end(): string | undefined {
    const [fault] = this.closings;
    return fault === null ? 'orderly' : fault?.code;
  }
}

let clock: SimClock;
let network: SimNetwork;
let wire: SimLink;

/** Both ends of a fresh connection. */
async function connect(): Promise<{ client: Connection; server: Connection }> {
  network.onLink = (link) => (wire = link);
  let server: Connection | undefined;
  const listener = await network.listen(ADDRESS, (accepted) => (server = accepted));
  const connecting = network.connect(ADDRESS, { timeoutMs: 1_000 });
  await clock.advance(10);
  const client = await connecting;
  await listener.close();
  if (server === undefined) throw new Error('nobody was accepted');
  return { client, server };
}

async function pair(
  agentOptions: ConstructorParameters<typeof Side>[2] = {},
  hubOptions: ConstructorParameters<typeof Side>[2] = {},
): Promise<{ agent: Side; hub: Side }> {
  const { client, server } = await connect();
  return { agent: new Side(client, clock, agentOptions), hub: new Side(server, clock, hubOptions) };
}

function record(encoder: RecordEncoder, payload: Buffer): Buffer[] {
  encoder.encode(FrameType.Write, 0, 0, 0, payload.length, 1, 0, [payload]);
  return [encoder.head, payload, encoder.tail];
}

const ACK: Ack = { received: 5, durable: 4, stalled: null };

beforeEach(() => {
  clock = new SimClock();
  network = new SimNetwork({ clock });
});

describe('frame link, frames', () => {
  test('control frames arrive with their bodies, records as they were sent', async () => {
    const { agent, hub } = await pair();
    const encoder = new RecordEncoder(LINE, 1, 0);
    const frames = [record(encoder, Buffer.alloc(4096, 1)), record(encoder, Buffer.alloc(200_000, 2))];
    hub.link.sendControl(FrameType.Ack, ACK);
    for (const frame of frames) agent.link.send(frame);
    await clock.advance(100);
    expect(agent.acks).toEqual([ACK]);
    expect(hub.records.map((sent) => sent.number)).toEqual([1, 2]);
    expect(hub.records.map((sent) => sent.bytes)).toEqual(frames.map((frame) => Buffer.concat(frame)));
  });

  test('handlers are changed for the next part of the conversation', async () => {
    const { agent, hub } = await pair();
    const later: Ack[] = [];
    agent.link.use({ ack: (ack) => later.push(ack), closed: (fault) => agent.closings.push(fault) });
    hub.link.sendControl(FrameType.Ack, ACK);
    await clock.advance(10);
    expect(agent.acks).toEqual([]);
    expect(later).toEqual([ACK]);
    hub.link.end('done');
    await clock.advance(10);
    expect(agent.end).toBe('orderly');
  });

  test('a frame that nobody here handles ends the session, and the peer is told which', async () => {
    const { agent, hub } = await pair({}, {});
    agent.link.sendControl(FrameType.Request, { kind: 'resync' });
    await clock.advance(10);
    expect(hub.end).toBe('unexpected-frame');
    expect(agent.refusals).toEqual([
      { code: 'unexpected-frame', message: 'Request has no place here', retryAfterMs: 1_000 },
    ]);
    expect(agent.end).toBe('peer-refused');
  });

  test('a record where none is expected ends the session', async () => {
    const { client, server } = await connect();
    const agent = new Side(client, clock);
    const closings: (Fault | null)[] = [];
    new FrameLink({
      connection: server,
      clock,
      beat: () => ({ sentMs: 0, echoMs: null, unixMs: 0, report: null }),
      handlers: { closed: (fault) => closings.push(fault) },
    });
    agent.link.send(record(new RecordEncoder(LINE, 1, 0), Buffer.alloc(512)));
    await clock.advance(10);
    expect(closings[0]).toBeInstanceOf(ProtocolFault);
    expect(closings[0]?.code).toBe('unexpected-frame');
  });

  test('a body that does not fit its schema ends the session, naming the field', async () => {
    const { client, server } = await connect();
    const hub = new Side(server, clock);
    client.send(encodeControl(FrameType.Ack, { received: -1, durable: 4, stalled: null }));
    await clock.advance(10);
    expect(hub.end).toBe('bad-body');
    expect(hub.closings[0]?.message).toMatch(/^Ack: received: /);
  });
});

describe('frame link, the end', () => {
  test('an orderly end comes to both sides as null, once', async () => {
    const { agent, hub } = await pair();
    agent.link.sendControl(FrameType.Ack, ACK);
    agent.link.end('stopping');
    expect(agent.link.isOpen).toBe(false);
    await clock.advance(5_000);
    expect(hub.acks).toEqual([ACK]);
    expect([agent.closings, hub.closings]).toEqual([[null], [null]]);
    expect(wire.isOpen).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  test('an orderly end comes although the peer has frozen', async () => {
    const { agent } = await pair();
    wire.freeze();
    agent.link.end('stopping');
    await clock.advance(1_100);
    expect(agent.closings).toEqual([null]);
  });

  test('refuse tells the peer code, message and when to come again', async () => {
    const { agent, hub } = await pair();
    hub.link.refuse(new StorageFault('journal-failed', 'the journal of vm1 failed to sync'), null);
    await clock.advance(10);
    expect(hub.end).toBe('journal-failed');
    expect(agent.refusals[0]).toEqual({
      code: 'journal-failed',
      message: 'the journal of vm1 failed to sync',
      retryAfterMs: null,
    });
    expect(agent.closings[0]).toBeInstanceOf(LinkFault);
    expect(agent.closings[0]?.retryable).toBe(false);
    await clock.advance(2_000);
    expect(wire.isOpen).toBe(false);
  });

  test('a lost connection, a peer that leaves without a word, and one that leaves in the middle of a frame', async () => {
    const first = await pair();
    wire.cut();
    await clock.advance(10);
    expect([first.agent.end, first.hub.end]).toEqual(['connection-lost', 'connection-lost']);

    const { client, server } = await connect();
    const second = new Side(server, clock);
    client.end();
    await clock.advance(10);
    expect(second.end).toBe('peer-ended');

    const again = await connect();
    const third = new Side(again.server, clock);
    again.client.send(encodeControl(FrameType.Ack, ACK).subarray(0, 90));
    again.client.end();
    await clock.advance(10);
    expect(third.end).toBe('peer-ended');
    expect(third.closings[0]?.message).toMatch(/in the middle of a frame/);
  });

  test('a handler that throws a fault ends the session with that fault, one that throws anything else with internal-error', async () => {
    const first = await pair(
      {},
      {
        also: {
          ack: () => {
            throw new StorageFault('disk-full', 'no room');
          },
        },
      },
    );
    first.agent.link.sendControl(FrameType.Ack, ACK);
    await clock.advance(10);
    expect([first.hub.end, first.agent.refusals[0]?.code]).toEqual(['disk-full', 'disk-full']);

    const second = await pair(
      {},
      {
        also: {
          record: () => {
            throw new TypeError('oops');
          },
        },
      },
    );
    second.agent.link.send(record(new RecordEncoder(LINE, 1, 0), Buffer.alloc(512)));
    await clock.advance(10);
    expect([second.hub.end, second.agent.refusals[0]?.code]).toEqual(['internal-error', 'internal-error']);
  });

  test('a beat that cannot be made ends the session', async () => {
    const { client } = await connect();
    const side = new Side(client, clock, {
      beat: () => {
        throw new Error('no report');
      },
    });
    side.link.sendControl(FrameType.Ack, ACK);
    await clock.advance(1_100);
    expect(side.end).toBe('internal-error');
  });

  test('after the end no handler is called, not for frames that are in the same chunk either', async () => {
    const { client, server } = await connect();
    const numbers: number[] = [];
    const hub = new Side(server, clock, {
      also: {
        record: (header) => {
          numbers.push(header.number);
          if (header.number === 2) hub.link.destroy(null);
        },
      },
    });
    const encoder = new RecordEncoder(LINE, 1, 0);
    client.send(Buffer.concat([1, 2, 3, 4].flatMap(() => record(encoder, Buffer.alloc(600)))));
    await clock.advance(10);
    expect(numbers).toEqual([1, 2]);
    expect(hub.closings).toEqual([null]);
  });

  test('what is sent after the end is dropped, ending twice is harmless', async () => {
    const { agent, hub } = await pair();
    agent.link.end('stopping');
    agent.link.end('stopping');
    agent.link.sendControl(FrameType.Ack, ACK);
    agent.link.send([Buffer.from('garbage')]);
    agent.link.refuse(new LinkFault('late', 'too late'), null);
    agent.link.pause();
    agent.link.resume();
    await clock.advance(2_000);
    agent.link.destroy(null);
    await clock.advance(10);
    expect([agent.closings, hub.closings, hub.acks]).toEqual([[null], [null], []]);
  });

  test('closed comes in a turn of its own, never within the call that caused it', async () => {
    const { agent } = await pair();
    agent.link.destroy(null);
    expect(agent.closings).toEqual([]);
    await clock.settle();
    expect(agent.closings).toEqual([null]);
  });
});

describe('frame link, hostile and dead peers', () => {
  test('garbage ends the session at once and is answered with a reason', async () => {
    const { client, server } = await connect();
    const hub = new Side(server, clock);
    const peer: Buffer[] = [];
    let ended = false;
    client.start({
      received: (chunk) => peer.push(chunk),
      drained: () => undefined,
      ended: () => (ended = true),
      closed: () => undefined,
    });
    client.send(Buffer.from('GET / HTTP/1.1\r\nHost: hub\r\n'.padEnd(200, 'x')));
    await clock.advance(10);
    expect(hub.end).toBe('frame-magic');
    expect(Buffer.concat(peer).includes('frame-magic')).toBe(true);
    await clock.advance(1_100);
    expect(ended).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });

  test('another service is known by its first bytes, before a header has come', async () => {
    const { client, server } = await connect();
    const agent = new Side(client, clock);
    server.send(Buffer.from('NBDMAGIC'));
    await clock.advance(10);
    expect(agent.end).toBe('frame-magic');
    expect(agent.closings[0]?.message).toContain('speaks NBD');
    await clock.advance(1_100);
    expect(clock.pendingTimers).toBe(0);
  });

  test('a peer that goes on sending garbage while it is being told is cut off after the linger time', async () => {
    const { client, server } = await connect();
    const hub = new Side(server, clock);
    let closed = false;
    client.start({
      received: () => undefined,
      drained: () => undefined,
      ended: () => undefined,
      closed: () => (closed = true),
    });
    for (let count = 0; count < 30; count += 1) {
      client.send(Buffer.alloc(100_000, 7));
      await clock.advance(100);
    }
    expect(hub.closings).toHaveLength(1);
    expect(closed).toBe(true);
  });

  test('a peer that never says anything is dropped after the time for the first frame', async () => {
    const { server } = await connect();
    const hub = new Side(server, clock, { firstFrameMs: 3_000 });
    await clock.advance(2_999);
    expect(hub.closings).toEqual([]);
    await clock.advance(1);
    expect(hub.end).toBe('no-first-frame');
    await clock.advance(10);
    expect(clock.pendingTimers).toBe(0);
  });

  test('half a header is no sign of life', async () => {
    const { client, server } = await connect();
    const hub = new Side(server, clock, { firstFrameMs: 3_000 });
    client.send(encodeControl(FrameType.Ack, ACK).subarray(0, 50));
    await clock.advance(3_000);
    expect(hub.end).toBe('no-first-frame');
  });

  test('a frame that is dripped byte by byte is no sign of life, and costs no object for each byte', async () => {
    const { client, server } = await connect();
    const hub = new Side(server, clock);
    client.send(encodeControl(FrameType.Ack, ACK));
    const [head] = record(new RecordEncoder(LINE, 1, 0), Buffer.alloc(1 << 20));
    client.send(head ?? Buffer.alloc(0));
    for (let count = 0; count < 4_900; count += 1) {
      client.send(Buffer.alloc(1));
      await clock.advance(1);
    }
    expect(hub.closings).toEqual([]);
    await clock.advance(200);
    expect(hub.end).toBe('peer-silent');
  });

  test('a large frame on a slow link is life as long as it comes on', async () => {
    const { client, server } = await connect();
    const conditions = network.conditionsOf(ADDRESS);
    conditions.bytesPerMs = 30;
    conditions.fragmentBytes = () => 1_400;
    const hub = new Side(server, clock);
    client.send(Buffer.concat(record(new RecordEncoder(LINE, 1, 0), Buffer.alloc(1 << 20))));
    await clock.advance(37_000);
    expect(hub.closings).toEqual([]);
    expect(hub.records).toHaveLength(1);
    await clock.advance(5_000);
    expect(hub.end).toBe('peer-silent');
  });

  test('a peer that vanishes is dead within the timeout', async () => {
    const { agent, hub } = await pair();
    agent.link.sendControl(FrameType.Ack, ACK);
    hub.link.sendControl(FrameType.Ack, ACK);
    await clock.advance(20_000);
    expect([agent.closings, hub.closings]).toEqual([[], []]);
    expect(hub.beats.length).toBe(19);
    wire.freeze();
    await clock.advance(5_000);
    expect([agent.end, hub.end]).toEqual(['peer-silent', 'peer-silent']);
  });

  test('the times that were agreed upon hold from then on', async () => {
    const { agent, hub } = await pair();
    for (const side of [agent, hub]) side.link.sendControl(FrameType.Ack, ACK);
    await clock.advance(10);
    for (const side of [agent, hub]) side.link.setHeartbeat(50, 200);
    await clock.advance(1_000);
    expect(hub.beats.length).toBeGreaterThan(15);
    wire.freeze();
    await clock.advance(200);
    expect([agent.end, hub.end]).toEqual(['peer-silent', 'peer-silent']);
  });

  test('while a side does not read it does not take the peer for dead', async () => {
    const { agent, hub } = await pair();
    for (const side of [agent, hub]) side.link.sendControl(FrameType.Ack, ACK);
    await clock.advance(10);
    hub.link.pause();
    await clock.advance(60_000);
    expect([agent.closings, hub.closings]).toEqual([[], []]);
    hub.link.resume();
    await clock.advance(4_000);
    expect(hub.closings).toEqual([]);
    expect(hub.beats.length).toBeGreaterThan(50);
  });

  test('a peer that does not read congests the link, and ends it when the limit is passed', async () => {
    const { client } = await connect();
    const agent = new Side(client, clock, { maxQueuedBytes: 4 << 20 });
    const encoder = new RecordEncoder(LINE, 1, 0);
    agent.link.send(record(encoder, Buffer.alloc(2 << 20)));
    expect(agent.link.congested).toBe(true);
    expect(agent.link.queuedBytes).toBeGreaterThan(2 << 20);
    await clock.advance(100);
    expect(agent.closings).toEqual([]);
    agent.link.send(record(encoder, Buffer.alloc(3 << 20)));
    await clock.advance(10);
    expect(agent.end).toBe('send-queue-full');
  });

  test('drained tells when a congested link has room again', async () => {
    const { agent, hub } = await pair();
    agent.link.send(record(new RecordEncoder(LINE, 1, 0), Buffer.alloc(3 << 20)));
    expect(agent.link.congested).toBe(true);
    await clock.advance(100);
    expect(agent.drained).toBe(1);
    expect(agent.link.congested).toBe(false);
    expect(hub.records).toHaveLength(1);
  });

  test('cut at every byte of a short conversation, the session ends with a stated reason and nothing half arrives', async () => {
    const encoder = new RecordEncoder(LINE, 1, 0);
    const frames = [
      encodeControl(FrameType.Ack, ACK),
      ...record(encoder, Buffer.alloc(40, 3)),
      encodeControl(FrameType.Bye, { reason: 'x' }),
    ];
    const total = frames.reduce((sum, frame) => sum + frame.length, 0);
    for (let cut = 1; cut < total; cut += 1) {
      const { client, server } = await connect();
      const hub = new Side(server, clock);
      wire.cutAfter('to-server', cut);
      for (const frame of frames) client.send(frame);
      await clock.advance(10);
      expect(hub.end).toBe('connection-lost');
      const ackBytes = frames[0]?.length ?? 0;
      expect(hub.acks.length).toBe(cut >= ackBytes ? 1 : 0);
      expect(hub.records.length).toBe(cut >= ackBytes + 136 ? 1 : 0);
    }
  });
});
