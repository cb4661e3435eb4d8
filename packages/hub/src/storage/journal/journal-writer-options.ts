/** What a JournalWriter is given, and what it tells. */
import type { Clock, Fault, FileSystem } from '@rephub/platform';
import type { SharedMemory } from '../shared-memory.js';
import type { SegmentInfo } from './segment-header.js';
import type { SegmentSet } from './segments.js';

export interface JournalEvents {
  /** All frames up to this number are in the file. */
  written(number: number): void;
  /** All frames up to this number are synced. */
  durable(number: number): void;
  congested(now: boolean): void;
  /** It waits for this to pass (room, a file handle), or for something else than before; null: it goes on. */
  waits(fault: Fault | null): void;
  /** The journal takes nothing any more. */
  failed(fault: Fault): void;
  /** What the header of a segment that begins now says. */
  segmentInfo(base: number, previousEnd: number): SegmentInfo;
}

export interface JournalWriterOptions {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly segments: SegmentSet;
  readonly segmentBytes: number;
  readonly queueBytes: number;
  /** What it shares with others: may make `queueBytes` less. */
  readonly queues?: SharedMemory;
  /**
   * Synced only when somebody asks (`syncThrough`) and at the end of a segment: for what need not survive a power cut until
   * somebody flushes it.
   */
  readonly syncsWhenAsked?: boolean;
  /** Asked before more room is taken; throws a fault of want of room when it may not be. */
  readonly mayGrow?: (bytes: number) => Promise<void>;
  readonly events: JournalEvents;
}

/** Where appending goes on. */
export interface JournalEnd {
  /** Position after the last good frame; 0 on a new line. */
  readonly position: number;
  /** Number of that frame. */
  readonly number: number;
  /** Where a next segment must begin: above `position` only after damage, when the last segment is not written to any more. */
  readonly nextBase: number | null;
}
