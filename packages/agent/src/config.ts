/** What an agent is told at start, checked and with every default filled in. Shapes only; cli/ makes it from options. */

import { type AckMode } from './mirror/acknowledgement.js';
import { type CompressOption } from './compression/packer.js';
import { type RateLimit } from './resync/rate-cap.js';
import { type MultiConnMode, type TrackDirty } from './upstream/multi-conn.js';
import { type RetryReadonly } from './upstream/upstream-parts.js';

export interface VolumeConfig {
  readonly name: string;
  /** NBD URI or `file:PATH`. */
  readonly upstream: string;
  /** NBD URIs to listen on for this volume alone; empty where the group's listeners serve it. */
  readonly listen: readonly string[];
}

export interface AgentConfig {
  readonly group: string;
  /** This machine's name, for people. */
  readonly host?: string;
  readonly volumes: readonly VolumeConfig[];
  /** NBD URIs that serve all volumes. */
  readonly listen: readonly string[];
  /** Hub URLs, tried in order; empty: a proxy that tracks changes. */
  readonly hubs: readonly string[];
  readonly stateDirectory: string;
  readonly mode: AckMode;
  readonly onDisconnect: 'continue' | 'freeze';
  /** A volume that has become smaller is meant to be so. */
  readonly allowShrink: boolean;
  readonly onCongestion: 'pull-ahead' | 'block';
  readonly durability: 'host' | 'process';
  readonly hotExtents: number;
  readonly granularityBytes: number;
  readonly windowBytes: number;
  /** Payload on the link: where it pays, never, or with this codec wherever data shrinks. */
  readonly compress: CompressOption;
  /** Bytes a second that a resync reads, at most; null: no limit; or by the time of day. */
  readonly maxBytesPerSecond: RateLimit;
  /** Everything is verified so often; null: only when asked. */
  readonly verifyEveryMs: number | null;
  /** Bytes a second of a verification, at most; null: no limit. */
  readonly verifyBytesPerSecond: number | null;
  /** Random regions of a volume that a start compares, where upstream cannot tell whether it was changed; 0: none. */
  readonly startSample: number;
  /** Infinity: for ever. */
  readonly retries: number;
  readonly retryDelayMs: number;
  readonly retryExponential: boolean;
  readonly retryReadonly: RetryReadonly;
  readonly requestTimeoutMs: number;
  /** Upstream connections of a volume, at most. */
  readonly connections: number;
  readonly multiConn: MultiConnMode;
  readonly trackDirty: TrackDirty;
  /** Infinity: connections are not kept alive. */
  readonly idleFlushMs: number;
  /** What was written since the last upstream flush is kept up to this, per volume; 0: not at all. */
  readonly replayBytes: number;
  /** The upstream may come later than the agent. */
  readonly waitUpstream: boolean;
  /** Sequential reads are read ahead up to this; 0: not at all. */
  readonly readCacheBytes: number;
}

/** What the options default to (run-options.ts, as one would write it); for the simulator and tests. */
export const AGENT_DEFAULTS = {
  mode: 'async',
  onDisconnect: 'continue',
  allowShrink: false,
  onCongestion: 'pull-ahead',
  durability: 'host',
  hotExtents: 1237,
  granularityBytes: 64 * 1024,
  windowBytes: 64 * 1024 * 1024,
  compress: 'auto',
  maxBytesPerSecond: null,
  verifyEveryMs: null,
  verifyBytesPerSecond: 64 * 1024 * 1024,
  startSample: 64,
  retries: 5,
  retryDelayMs: 2000,
  retryExponential: true,
  retryReadonly: 'no',
  requestTimeoutMs: 30_000,
  connections: 4,
  multiConn: 'auto',
  trackDirty: 'fast',
  idleFlushMs: 30_000,
  replayBytes: 64 * 1024 * 1024,
  waitUpstream: false,
  readCacheBytes: 0,
} as const;
