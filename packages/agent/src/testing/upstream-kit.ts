/** An Upstream in virtual time, over whatever connections a test hands out, and what it told. */
import { DeviceError } from '@rephub/nbd';
import { silentLogger } from '@rephub/platform';
import type { SimClock } from '@rephub/platform/sim';
import { GuestLatency } from '../guest/guest-latency.js';
import { type OpenUpstream } from '../upstream/lane.js';
import { type RetryPolicy } from '../upstream/retry-policy.js';
import { Upstream } from '../upstream/upstream.js';
import { type UpstreamOptions } from '../upstream/upstream-parts.js';

export const POLICY: RetryPolicy = { retries: 5, delayMs: 2000, exponential: true };

export const OPTIONS: UpstreamOptions = {
  retryReadonly: 'no',
  connections: 1,
  multiConn: 'auto',
  trackDirty: 'fast',
  idleFlushMs: Infinity,
  replayBytes: 1024 * 1024,
};

export interface Told {
  flushesWanted: number;
  readonly unknown: [number, number][];
  readonly playedAgain: [number, number][];
  readonly dropped: [number, number][];
  readonly lostWrites: [number, number][];
  unflushedLost: number;
  /** Of those: by a flush that failed. */
  unflushedDropped: number;
  readonly grown: number[];
  heldSlices: number;
}

export interface UpstreamKit {
  readonly clock: SimClock;
  readonly upstream: Upstream;
  readonly told: Told;
  /** Moves the time on until the work is over; its outcome is 0 or the NbdError. */
  readonly outcome: (work: Promise<unknown>) => Promise<number>;
}

export async function upstreamKit(
  clock: SimClock,
  open: OpenUpstream,
  options: Partial<UpstreamOptions> = {},
  policy: RetryPolicy = POLICY,
  wantsFlush: () => void = () => undefined,
  askSize: (() => Promise<number>) | null = null,
): Promise<UpstreamKit> {
  const told: Told = {
    ...{ flushesWanted: 0, unknown: [], playedAgain: [], dropped: [], lostWrites: [] },
    ...{ unflushedLost: 0, unflushedDropped: 0, grown: [], heldSlices: 0 },
  };
  const upstream = await Upstream.open({
    name: 'disk0',
    clock,
    log: silentLogger,
    policy,
    options: { ...OPTIONS, ...options },
    latency: new GuestLatency().addVolume('disk0'),
    memory: {
      hold: (slices) => (told.heldSlices += slices.length),
      release: (slices) => (told.heldSlices -= slices.length),
    },
    open,
    askSize,
    hooks: {
      wantsFlush: () => {
        told.flushesWanted++;
        wantsFlush();
      },
      contentUnknown: (offset, length) => told.unknown.push([offset, length]),
      playedAgain: (offset, length) => told.playedAgain.push([offset, length]),
      writeLost: (offset, length) => told.lostWrites.push([offset, length]),
      doubtChanged: () => undefined,
      contentDropped: (offset, length) => told.dropped.push([offset, length]),
      unflushedLost: (isDropped) => {
        told.unflushedLost++;
        if (isDropped) told.unflushedDropped++;
      },
      grown: (sizeBytes) => told.grown.push(sizeBytes),
    },
  });
  const outcome = async (work: Promise<unknown>): Promise<number> => {
    const seen = { isOver: false };
    const over = outcomeOf(work).finally(() => (seen.isOver = true));
    over.catch(() => undefined);
    await clock.runUntil(() => seen.isOver, 1_000_000);
    return await over;
  };
  return { clock, upstream, told, outcome };
}

export async function outcomeOf(work: Promise<unknown>): Promise<number> {
  return await work.then(
    () => 0,
    (error: unknown) => {
      if (error instanceof DeviceError) return error.nbdError;
      throw error;
    },
  );
}
