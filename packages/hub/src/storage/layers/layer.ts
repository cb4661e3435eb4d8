/**
 * A layer: what a stretch of the log changed, as an index per volume. Layers lie on top of one another, oldest first,
 * on top of the base images.
 *
 * Always holds: all its records are durable; once it has an `end` it takes no more of them.
 */
import { type ExtentIndex } from '../index/extent-index.js';
import type { Point } from '../point.js';

/** A volume between its adding and its removal; a later one of the same name or index is another object. */
export class Volume {
  readonly index: number;
  readonly name: string;
  /** Number of the record that added it. */
  readonly added: number;
  /** As of the last durable record. */
  sizeBytes: number;
  /** What upstream could not read, as of the last durable record. */
  readonly unreadable: ExtentIndex;

  constructor(index: number, name: string, added: number, sizeBytes: number, unreadable: ExtentIndex) {
    this.index = index;
    this.name = name;
    this.added = added;
    this.sizeBytes = sizeBytes;
    this.unreadable = unreadable;
  }
}

/** A change of the volumes themselves, in the order of the records. */
export interface VolumeChange {
  readonly kind: 'added' | 'resized' | 'removed';
  readonly volume: Volume;
  readonly sizeBytes: number;
}

export class Layer {
  readonly indexes = new Map<Volume, ExtentIndex>();
  readonly changes: VolumeChange[] = [];
  /** Journal positions that its records lie between. */
  readonly startPosition: number;
  endPosition: number;
  lastNumber: number;
  readonly firstTimeUs: number;
  lastTimeUs: number;
  records = 0;
  /** Everything known after its last record; null while it takes records. */
  end: Point | null = null;

  constructor(startPosition: number, number: number, timeUs: number) {
    this.startPosition = startPosition;
    this.endPosition = startPosition;
    this.lastNumber = number;
    this.firstTimeUs = timeUs;
    this.lastTimeUs = timeUs;
  }

  get extents(): number {
    let count = 0;
    for (const index of this.indexes.values()) count += index.count;
    return count;
  }

  /** Takes over the end of the layer above, whose extents were moved here. */
  take(above: Layer): void {
    this.endPosition = above.endPosition;
    this.lastNumber = above.lastNumber;
    this.lastTimeUs = above.lastTimeUs;
    this.records += above.records;
    this.changes.push(...above.changes);
    this.end = above.end;
  }

  /** Lets go of all indexes. */
  clear(): void {
    for (const index of this.indexes.values()) index.clear();
    this.indexes.clear();
  }
}
