/**
 * Reads payload out of the journal by position, many reads in flight.
 *
 * Always holds: the segment of a read is held from the call on, so what was found in an index can be read even
 * when it has been applied and dropped meanwhile. Callers ask only for positions of frames that were checked.
 */
import { CorruptionFault } from '@rephub/platform';
import type { Segment, SegmentSet } from './segments.js';

export class JournalReader {
  readonly #segments: SegmentSet;

  constructor(segments: SegmentSet) {
    this.#segments = segments;
  }

  /** Fills `buffer` from `position` on; the range lies in one segment. Throws `journal-missing` or `journal-short`, or a StorageFault. */
  read(buffer: Uint8Array, position: number): Promise<void> {
    const segment = this.#segments.find(position);
    if (segment === null) {
      return Promise.reject(new CorruptionFault('journal-missing', `no journal segment holds position ${position}`));
    }
    return this.#read(segment, buffer, position);
  }

  /** Bytes from `position` to the end of its segment's frames. */
  bytesToSegmentEnd(position: number): number {
    const segment = this.#segments.find(position);
    return segment === null ? 0 : segment.end - position;
  }

  async #read(segment: Segment, buffer: Uint8Array, position: number): Promise<void> {
    const opened = this.#segments.acquire(segment);
    try {
      const file = await opened;
      const read = await file.read(buffer, position - segment.base);
      if (read !== buffer.length) {
        throw new CorruptionFault('journal-short', `${segment.path} ends ${buffer.length - read} bytes early`);
      }
    } finally {
      this.#segments.release(segment);
    }
  }
}
