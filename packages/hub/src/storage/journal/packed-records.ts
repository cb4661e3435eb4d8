/**
 * Where the compressed records of a journal are. What an index says of raw bytes is a position; bytes of a compressed
 * record have none in a file, so each such record gets as many *places* as it has raw bytes, from PACKED_FROM on, where no
 * journal ever gets to. So indexes cut and move extents of compressed records as they do all others.
 *
 * Always holds: records are in the journal's order, and so are their places; a place is given once in the life of this object.
 * Must not know: what is compressed how, files.
 */
import { assert } from '@rephub/platform';
import type { IndexMemory } from '../index/extent-index.js';

/** Half of the numbers that a double holds exactly. */
export const PACKED_FROM = 2 ** 52;

/** Two doubles and a 32-bit length. */
const ENTRY_BYTES = 20;
const FIRST_CAPACITY = 256;

/** One record; filled anew by each look-up. */
export class PackedRecord {
  /** Its first place. */
  from = 0;
  rawBytes = 0;
  /** Journal position of its frame. */
  position = 0;
  frameBytes = 0;
}

export class PackedRecords {
  readonly #memory: IndexMemory;
  #froms = new Float64Array(0);
  #positions = new Float64Array(0);
  #frameBytes = new Uint32Array(0);
  #first = 0;
  #end = 0;
  #next = PACKED_FROM;

  constructor(memory: IndexMemory) {
    this.#memory = memory;
  }

  get count(): number {
    return this.#end - this.#first;
  }

  /** Takes the next record of the journal; returns the place of its first raw byte. */
  add(position: number, frameBytes: number, rawBytes: number): number {
    if (this.#end === this.#froms.length) this.#makeRoom();
    const from = this.#next;
    this.#froms[this.#end] = from;
    this.#positions[this.#end] = position;
    this.#frameBytes[this.#end] = frameBytes;
    this.#end += 1;
    this.#next = from + rawBytes;
    assert(Number.isSafeInteger(this.#next), 'places for compressed bytes are used up');
    return from;
  }

  /** The record that this place is in; false when it has gone. */
  find(place: number, record: PackedRecord): boolean {
    let low = this.#first;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#froms[middle] as number) > place) high = middle;
      else low = middle + 1;
    }
    const at = low - 1;
    if (at < this.#first || place >= this.#next) return false;
    record.from = this.#froms[at] as number;
    record.position = this.#positions[at] as number;
    record.frameBytes = this.#frameBytes[at] as number;
    record.rawBytes = (at + 1 < this.#end ? (this.#froms[at + 1] as number) : this.#next) - record.from;
    return true;
  }

  /** Forgets records that lie below this journal position. */
  dropBelow(position: number): void {
    while (this.#first < this.#end && (this.#positions[this.#first] as number) < position) this.#first += 1;
    if (this.#first === this.#end && this.#froms.length > FIRST_CAPACITY) this.#resize(0);
  }

  #makeRoom(): void {
    const used = this.count;
    this.#resize(used * 2 < this.#froms.length ? this.#froms.length : Math.max(FIRST_CAPACITY, this.#froms.length * 2));
  }

  /** Arrays for so many records, those that there are at their beginning. */
  #resize(capacity: number): void {
    const froms = new Float64Array(capacity);
    const positions = new Float64Array(capacity);
    const frameBytes = new Uint32Array(capacity);
    froms.set(this.#froms.subarray(this.#first, this.#end));
    positions.set(this.#positions.subarray(this.#first, this.#end));
    frameBytes.set(this.#frameBytes.subarray(this.#first, this.#end));
    this.#memory.bytes += (capacity - this.#froms.length) * ENTRY_BYTES;
    this.#froms = froms;
    this.#positions = positions;
    this.#frameBytes = frameBytes;
    this.#end -= this.#first;
    this.#first = 0;
  }
}
