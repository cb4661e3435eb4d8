/**
 * A link whose peer says anything at all: valid frames of the wrong kind, bodies with bytes changed, garbage in between,
 * silence and cuts at any byte. It must end once, with a reason, within its time limits, and leave no timer behind
 * (promises FRAME, BEAT). A failing run prints its seed.
 */
import type { Connection, Fault } from '@rephub/platform';
import { SimClock, SimNetwork } from '@rephub/platform/sim';
import {
  type Beat,
  encodeBody,
  encodeControl,
  encodeHeader,
  encodeTrailer,
  FRAME_OVERHEAD_BYTES,
  FrameHeader,
  FrameLink,
  FrameType,
  HEADER_BYTES,
} from '@rephub/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32 } from 'node:zlib';

const ADDRESS = { kind: 'unix', path: '/hub' } as const;
const BEAT: Beat = { sentMs: 1, echoMs: null, unixMs: 1, report: null };
const ACK = { received: 2, durable: 1, stalled: null };
const CONTROL_TYPES = Object.values(FrameType).filter((type) => type >= 64);
const controlType = fc.constantFrom(...CONTROL_TYPES);

/** A control frame around bytes that need not be msgpack; its checksums fit. */
function frameAround(type: FrameType, body: Uint8Array): Buffer {
  const header = new FrameHeader();
  header.type = type;
  header.storedLength = body.length;
  header.storedChecksum = crc32(body);
  header.rawChecksum = header.storedChecksum;
  const bytes = Buffer.alloc(FRAME_OVERHEAD_BYTES + body.length);
  encodeHeader(header, bytes, 0);
  bytes.set(body, HEADER_BYTES);
  encodeTrailer(header.headerChecksum, bytes, HEADER_BYTES + body.length);
  return bytes;
}

/** A body that fits several types, with one byte changed. */
function damagedBody(place: number, value: number): Buffer {
  const body = encodeBody({ ...BEAT, ...ACK, code: 'x', message: 'y', retryAfterMs: 5, reason: 'z' });
  body.writeUInt8(value, place % body.length);
  return body;
}

const piece: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 4, arbitrary: fc.constant(encodeControl(FrameType.Beat, BEAT)) },
  { weight: 4, arbitrary: fc.constant(encodeControl(FrameType.Ack, ACK)) },
  { weight: 1, arbitrary: fc.tuple(controlType, fc.jsonValue()).map(([type, body]) => encodeControl(type, body)) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(controlType, fc.nat(), fc.nat(255))
      .map(([type, place, value]) => frameAround(type, damagedBody(place, value))),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(controlType, fc.uint8Array({ maxLength: 60 })).map(([type, body]) => frameAround(type, body)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
);

interface Script {
  readonly pieces: readonly Buffer[];
  readonly pausesMs: readonly number[];
  readonly cutAfter: number | null;
  readonly leaves: boolean;
}

const script: fc.Arbitrary<Script> = fc.record({
  pieces: fc.array(piece, { maxLength: 12 }),
  pausesMs: fc.array(fc.constantFrom(0, 1, 900, 3_000), { minLength: 1, maxLength: 4 }),
  cutAfter: fc.option(fc.nat(2_000)),
  leaves: fc.boolean(),
});

async function play({ pieces, pausesMs, cutAfter, leaves }: Script): Promise<(Fault | null)[]> {
  const clock = new SimClock();
  const network = new SimNetwork({ clock });
  const closings: (Fault | null)[] = [];
  network.onLink = (link) => {
    if (cutAfter !== null) link.cutAfter('to-server', cutAfter);
  };
  await network.listen(ADDRESS, (connection) => {
    new FrameLink({
      connection,
      clock,
      beat: () => BEAT,
      handlers: {
        ack: () => expect(closings).toEqual([]),
        beat: () => expect(closings).toEqual([]),
        closed: (fault) => closings.push(fault),
      },
    });
  });
  const connecting = network.connect(ADDRESS, { timeoutMs: 1_000 });
  await clock.advance(5);
  const peer: Connection = await connecting;
  for (const [index, bytes] of pieces.entries()) {
    peer.send(bytes);
    await clock.advance(pausesMs[index % pausesMs.length] ?? 0);
  }
  if (leaves) peer.end();
  // Nothing but silence from here on: within its limits the link is over.
  await clock.advance(11_500);
  peer.destroy();
  await clock.advance(10);
  expect(clock.pendingTimers).toBe(0);
  return closings;
}

describe('a link to a peer that says anything', () => {
  test('ends once, for a stated reason, within its limits', async () => {
    const reasons = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(script, async (drawn) => {
        const closings = await play(drawn);
        expect(closings).toHaveLength(1);
        const [fault] = closings;
        const reason = fault?.code ?? 'orderly';
        expect(reason).not.toBe('internal-error');
        reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      }),
      { numRuns: 400 },
    );
    for (const reason of [
      'bad-body',
      'frame-magic',
      'unexpected-frame',
      'connection-lost',
      'peer-ended',
      'peer-silent',
    ]) {
      expect(reasons.get(reason) ?? 0, `${reason} was met`).toBeGreaterThan(0);
    }
  });
});
