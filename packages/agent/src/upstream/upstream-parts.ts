/** What an Upstream is made of, and what it tells. Shapes only. */
import { type Clock, type Logger } from '@rephub/platform';
import { type VolumeLatency } from '../guest/guest-latency.js';
import { type OpenUpstream } from './lane.js';
import { type MultiConnMode, type TrackDirty } from './multi-conn.js';
import { type PayloadMemory } from './replay-log.js';
import { type RetryPolicy } from './retry-policy.js';

/** After the first failure no more is written: never, after any, or after that of a write. */
export type RetryReadonly = 'no' | 'yes' | 'on-write-failure';

export interface UpstreamOptions {
  readonly retryReadonly: RetryReadonly;
  readonly connections: number;
  readonly multiConn: MultiConnMode;
  readonly trackDirty: TrackDirty;
  /** A connection that was idle for so long is flushed. */
  readonly idleFlushMs: number;
  /** What was written since the last flush is kept up to this; 0: not at all. */
  readonly replayBytes: number;
}

export interface UpstreamHooks {
  /** What is kept for a replay is near its bound: a flush is wanted, by whoever counts what it covers. */
  wantsFlush(): void;
  /** Upstream may hold something else there than before: to be read again. */
  contentUnknown(offset: number, length: number): void;
  /** Upstream may have shown something older there, and shows now what was acknowledged. */
  playedAgain(offset: number, length: number): void;
  /** `Upstream.mayHaveDropped` or `Upstream.mayHaveLost` has changed, or may have. */
  doubtChanged(): void;
  /** A flush that failed may have dropped what readers see there, and nobody has it: to be read, and written again. */
  contentDropped(offset: number, length: number): void;
  /** An acknowledged write is gone for good: read again, and the guest's next flush must fail. */
  writeLost(offset: number, length: number): void;
  /** Unflushed writes may be gone and are not at hand. `isDropped`: by a flush that failed, readers may see them still. */
  unflushedLost(isDropped: boolean): void;
  /** Upstream can do so many bytes now, more than before; they are used from `Upstream.admit` on. */
  grown(sizeBytes: number): void;
}

export interface UpstreamParts {
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly policy: RetryPolicy;
  readonly options: UpstreamOptions;
  readonly memory: PayloadMemory;
  /** Is told how long guests' requests take. */
  readonly latency: Pick<VolumeLatency, 'began' | 'ended'>;
  readonly open: OpenUpstream;
  /** How large upstream is for somebody who connects now; null: it cannot be asked without being disturbed. */
  readonly askSize: (() => Promise<number>) | null;
  readonly hooks: UpstreamHooks;
}
