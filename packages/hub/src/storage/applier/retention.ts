/**
 * When the oldest layer is folded, and when a point that stands in the way must go: a pure function of what is held.
 */
export interface RetentionLimits {
  readonly retentionMs: number;
  readonly journalMaxBytes: number;
}

export interface Holdings {
  /** Agent time of the newest record, and of the newest in the oldest layer. */
  readonly newestTimeUs: number;
  readonly oldestLayerTimeUs: number;
  /** Clock.monotonicMs since when something waits to be folded. */
  readonly waitingMs: number;
  /** Journal bytes of the oldest layer. */
  readonly oldestLayerBytes: number;
  /** Its part of the memory for indexes: enough, passed, or passed so far that points must go. */
  readonly index: 'fits' | 'over' | 'far-over';
  readonly journalBytes: number;
  /** There is a point that can be opened. */
  readonly hasLastGood: boolean;
  readonly diskFull: boolean;
  /** What is to give way so that protection goes on: nothing, history that nobody looks at, or points that are open too. */
  readonly roomWanted: 'nothing' | 'history' | 'points';
  readonly draining: boolean;
}

export type FoldReason = 'room' | 'first-sync' | 'age' | 'index-memory' | 'journal-size' | 'disk-full' | 'drain';

/** With no retention, small changes wait so long for company… */
export const PACE_MS = 1000;
/** … or until there are so many of them. */
const PACE_BYTES = 16 * 1024 * 1024;

/** Why the oldest layer should be folded now; null when it should stay. */
export function reasonToFold(limits: RetentionLimits, held: Holdings): FoldReason | null {
  if (held.draining) return 'drain';
  if (held.diskFull) return 'disk-full';
  if (held.roomWanted !== 'nothing') return 'room';
  if (held.index !== 'fits') return 'index-memory';
  if (held.journalBytes > limits.journalMaxBytes) return 'journal-size';
  const worthIt = held.oldestLayerBytes >= PACE_BYTES || held.waitingMs >= PACE_MS;
  if (!held.hasLastGood) return worthIt ? 'first-sync' : null;
  if (limits.retentionMs === 0) return worthIt ? 'age' : null;
  return held.newestTimeUs - held.oldestLayerTimeUs > limits.retentionMs * 1000 ? 'age' : null;
}

/** Why points that keep layers from being folded must be taken away; null while they may stay. */
export function reasonToExpire(limits: RetentionLimits, held: Holdings): string | null {
  if (held.draining) return 'the group is being closed';
  if (held.diskFull) return 'the disk is full';
  if (held.roomWanted === 'points') return 'a resync needs the room';
  if (held.index === 'far-over') return 'what came since then no longer fits in memory';
  if (held.journalBytes > limits.journalMaxBytes) return 'the journal has reached its limit';
  return null;
}

export interface TopLayer {
  readonly bytes: number;
  readonly extents: number;
  readonly ageUs: number;
}

/** True when the open top layer should end, so that parts of it can be folded or let go by themselves. */
export function closesTop(limits: RetentionLimits, indexLimitBytes: number, top: TopLayer): boolean {
  const { bytes: topBytes, extents: topExtents, ageUs: topAgeUs } = top;
  if (topExtents * 32 > indexLimitBytes / 16) return true;
  if (topBytes > Math.min(limits.journalMaxBytes / 16, 1024 * 1024 * 1024)) return true;
  return limits.retentionMs > 0 && topAgeUs > Math.max(1_000_000, (limits.retentionMs * 1000) / 16);
}
