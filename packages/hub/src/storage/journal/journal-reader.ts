/**
 * Reads payload out of the journal by place: its position, or for bytes of a compressed record what PackedRecords gave it.
 * Many reads in flight.
 *
 * Always holds: the segment of a read is held from the call on, so what was found in an index can be read even
 * when it has been applied and dropped meanwhile. Callers ask only for places of frames that were checked.
 */
import { type BlockCodec, CorruptionFault } from '@rephub/platform';
import { PACKED_FROM, PackedRecord, type PackedRecords } from './packed-records.js';
import type { Segment, SegmentSet } from './segments.js';
import { Unpacked } from './unpacked.js';

export class JournalReader {
  readonly #segments: SegmentSet;
  readonly #packed: PackedRecords | null;
  readonly #unpacked: Unpacked;
  readonly #record = new PackedRecord();

  /** Without `packed` there are no compressed records in this journal. */
  constructor(segments: SegmentSet, packed: PackedRecords | null = null, codecs: readonly BlockCodec[] = []) {
    this.#segments = segments;
    this.#packed = packed;
    this.#unpacked = new Unpacked(codecs);
  }

  /**
   * Fills `buffer` from `place` on; the range lies in one segment, or in one compressed record. Throws `journal-missing`,
   * `journal-short` or `journal-packed`, or a StorageFault. `once`: see OpenFile.read.
   */
  read(buffer: Uint8Array, place: number, once = false): Promise<void> {
    if (place >= PACKED_FROM) return this.#readPacked(buffer, place);
    const segment = this.#segments.find(place);
    if (segment === null) return Promise.reject(missing(place));
    return this.#read(segment, buffer, place, once);
  }

  /** Bytes from `place` to the end of its segment's frames, or of its compressed record. */
  bytesToSegmentEnd(place: number): number {
    if (place >= PACKED_FROM) {
      const record = this.#record;
      return this.#packed?.find(place, record) === true ? record.from + record.rawBytes - place : 0;
    }
    const segment = this.#segments.find(place);
    return segment === null ? 0 : segment.end - place;
  }

  async #read(segment: Segment, buffer: Uint8Array, position: number, once: boolean): Promise<void> {
    const opened = this.#segments.acquire(segment);
    try {
      const file = await opened;
      const read = await file.read(buffer, position - segment.base, once);
      if (read !== buffer.length) {
        throw new CorruptionFault('journal-short', `${segment.path} ends ${buffer.length - read} bytes early`);
      }
    } finally {
      this.#segments.release(segment);
    }
  }

  async #readPacked(buffer: Uint8Array, place: number): Promise<void> {
    const record = this.#record;
    if (this.#packed?.find(place, record) !== true) throw missing(place);
    const { position, frameBytes, rawBytes, from } = record;
    const segment = this.#segments.find(position);
    if (segment === null) throw missing(position);
    // Held here: the frame may be read only after others have been.
    const held = this.#segments.acquire(segment);
    held.catch(() => undefined);
    try {
      const read = (frame: Buffer): Promise<void> => this.#read(segment, frame, position, false);
      await this.#unpacked.copy(position, frameBytes, rawBytes, read, buffer, place - from);
    } finally {
      this.#segments.release(segment);
    }
  }
}

function missing(place: number): CorruptionFault {
  return new CorruptionFault('journal-missing', `no journal segment holds position ${place}`);
}
