// BOUND: peers that stop in the middle of a record hold no more than one budget, all together.
import { type Connection, type Fault, PayloadBudget } from '@rephub/platform';
import { SimClock, SimNetwork } from '@rephub/platform/sim';
import { beforeEach, describe, expect, test } from 'vitest';
import { FrameLink } from './frame-link.js';
import { FrameType } from './frame.js';
import { encodeControl } from './messages.js';
import { RecordEncoder } from './record-encoder.js';

const MIB = 1024 * 1024;
const LINE = Buffer.alloc(16, 5);
const BEAT = { sentMs: 0, echoMs: null, unixMs: 0, report: null };

let clock: SimClock;
let network: SimNetwork;
let payloads: PayloadBudget;
let next: number;

beforeEach(() => {
  clock = new SimClock();
  network = new SimNetwork({ clock });
  payloads = new PayloadBudget(clock, { largeBudgetBytes: 4 * MIB });
  next = 0;
});

interface Met {
  /** Plain bytes to the link. */
  readonly peer: Connection;
  readonly link: FrameLink;
  readonly records: number[];
  readonly ends: (string | null)[];
}

async function meet(takesRecords = true): Promise<Met> {
  const address = { kind: 'tcp', host: 'hub', port: 9010 + next++ } as const;
  const records: number[] = [];
  const ends: (string | null)[] = [];
  let link: FrameLink | undefined;
  await network.listen(address, (connection) => {
    link = new FrameLink({
      connection,
      clock,
      payloads,
      countedRecords: true,
      beat: () => BEAT,
      handlers: {
        beat: () => undefined,
        ...(takesRecords ? { record: (header) => records.push(header.length) } : {}),
        closed: (fault: Fault | null) => ends.push(fault?.code ?? null),
      },
    });
  });
  const connecting = network.connect(address, { timeoutMs: 1_000 });
  await clock.advance(10);
  const peer = await connecting;
  peer.start({ received: () => undefined, drained: () => undefined, ended: () => undefined, closed: () => undefined });
  if (link === undefined) throw new Error('nobody was accepted');
  peer.send(encodeControl(FrameType.Beat, BEAT));
  await clock.advance(10);
  return { peer, link, records, ends };
}

function record(bytes: number): Buffer {
  const encoder = new RecordEncoder(LINE, 1, 0);
  const payload = Buffer.alloc(bytes, 1);
  encoder.encode(FrameType.Write, 0, 0, 0, bytes, 1, 0, [payload]);
  return Buffer.concat([encoder.head, payload, encoder.tail]);
}

/** Peers that have sent half of a record. */
async function stoppedHalfway(count: number, bytes: number): Promise<Met[]> {
  const all: Met[] = [];
  while (all.length < count) all.push(await meet());
  for (const { peer } of all) peer.send(record(bytes).subarray(0, bytes / 2));
  await clock.advance(500);
  return all;
}

describe('links whose peers stop in the middle of a record', () => {
  test('take no more than the budget together; who waits for room is deaf, and not taken for dead', async () => {
    const stuck = await stoppedHalfway(6, 2 * MIB);
    expect([payloads.usedBytes, payloads.waiting]).toEqual([4 * MIB, 4]);
    expect(stuck.map(({ link }) => link.isDeaf)).toEqual([false, false, true, true, true, true]);
    // The two that were let in bring nothing: silent for too long, like any peer. The next two come in.
    await clock.advance(5_000);
    expect(stuck.map(({ ends }) => ends.length)).toEqual([1, 1, 0, 0, 0, 0]);
    expect([payloads.usedBytes, payloads.waiting]).toEqual([4 * MIB, 2]);
    await clock.advance(30_000);
    expect(stuck.map(({ ends }) => ends)).toEqual(stuck.map(() => ['peer-silent']));
    expect([payloads.usedBytes, payloads.waiting, clock.pendingTimers]).toEqual([0, 0, 0]);
  });

  test('hold up no small record, and a large one only until there is room', async () => {
    const stuck = await stoppedHalfway(3, 2 * MIB);
    const honest = await meet();
    honest.peer.send(record(200_000));
    await clock.advance(100);
    expect(honest.records).toEqual([200_000]);
    honest.peer.send(record(MIB));
    await clock.advance(100);
    expect([honest.records.length, honest.link.isDeaf]).toEqual([1, true]);
    await clock.advance(11_000);
    expect([honest.records, honest.link.isDeaf]).toEqual([[200_000, MIB], false]);
    expect(stuck.map(({ ends }) => ends.length)).toEqual([1, 1, 1]);
  });

  test('in drops that count as life are overdue in the end, with a reason', async () => {
    const [drip, other] = (await stoppedHalfway(2, 4 * MIB)) as [Met, Met];
    for (let second = 0; second < 31 && drip.ends.length === 0; second += 1) {
      drip.peer.send(Buffer.alloc(64 * 1024, 1));
      await clock.advance(1_000);
    }
    expect([drip.ends, other.ends]).toEqual([['payload-stalled'], []]);
    expect(other.link.isDeaf).toBe(false);
  });

  test('because our side does not read it are not to blame', async () => {
    const [paused, other] = (await stoppedHalfway(2, 4 * MIB)) as [Met, Met];
    paused.link.pause();
    await clock.advance(120_000);
    expect([paused.ends, other.ends, other.link.isDeaf]).toEqual([[], [], true]);
    paused.peer.send(record(4 * MIB).subarray(2 * MIB));
    paused.link.resume();
    await clock.advance(1_000);
    expect([paused.records, other.link.isDeaf]).toEqual([[4 * MIB], false]);
  });

  test('a record where none is expected is refused by its header', async () => {
    const { peer, ends } = await meet(false);
    peer.send(record(2 * MIB).subarray(0, 1000));
    await clock.advance(100);
    expect([ends, payloads.usedBytes]).toEqual([['unexpected-frame'], 0]);
  });
});
