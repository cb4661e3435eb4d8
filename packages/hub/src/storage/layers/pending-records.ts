/**
 * Records that were appended and are not durable yet, in order: what the indexes will need of them, without payload.
 * A ring of typed arrays that grows to what the journal's queue can hold.
 *
 * Must not know: journals, indexes.
 */
import type { FrameType } from '@rephub/protocol';

/** One record; filled anew by each `shift`. */
export class PendingRecord {
  type: FrameType = 1;
  volume = 0;
  offset = 0;
  length = 0;
  number = 0;
  headerChecksum = 0;
  agentTimeUs = 0;
  /** Place of the first payload byte: its journal position, or what PackedRecords gave it. */
  payloadPlace = 0;
  /** Journal position after the frame. */
  endPosition = 0;
}

/** Numbers of a record in the ring: offset, length, number, time, payload place, end position. */
const FIELDS = 6;

export class PendingRecords {
  #capacity = 1024;
  #wide = new Float64Array(this.#capacity * FIELDS);
  #checksums = new Uint32Array(this.#capacity);
  #types = new Uint8Array(this.#capacity);
  #volumes = new Uint16Array(this.#capacity);
  #first = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  push(
    record: Readonly<Omit<PendingRecord, 'payloadPlace' | 'endPosition'>>,
    payloadPlace: number,
    endPosition: number,
  ): void {
    if (this.#count === this.#capacity) this.#grow();
    const at = (this.#first + this.#count) & (this.#capacity - 1);
    const wide = this.#wide;
    const base = at * FIELDS;
    wide[base] = record.offset;
    wide[base + 1] = record.length;
    wide[base + 2] = record.number;
    wide[base + 3] = record.agentTimeUs;
    wide[base + 4] = payloadPlace;
    wide[base + 5] = endPosition;
    this.#checksums[at] = record.headerChecksum;
    this.#types[at] = record.type;
    this.#volumes[at] = record.volume;
    this.#count += 1;
  }

  /** Takes the oldest record out when its number is at most `number`; false when there is none. */
  shift(number: number, record: PendingRecord): boolean {
    if (this.#count === 0) return false;
    const at = this.#first;
    const wide = this.#wide;
    const base = at * FIELDS;
    const found = wide[base + 2] as number;
    if (found > number) return false;
    record.offset = wide[base] as number;
    record.length = wide[base + 1] as number;
    record.number = found;
    record.agentTimeUs = wide[base + 3] as number;
    record.payloadPlace = wide[base + 4] as number;
    record.endPosition = wide[base + 5] as number;
    record.headerChecksum = this.#checksums[at] as number;
    record.type = this.#types[at] as FrameType;
    record.volume = this.#volumes[at] as number;
    this.#first = (at + 1) & (this.#capacity - 1);
    this.#count -= 1;
    return true;
  }

  #grow(): void {
    const older = { wide: this.#wide, checksums: this.#checksums, types: this.#types, volumes: this.#volumes };
    const { length } = older.types;
    this.#capacity = length * 2;
    this.#wide = new Float64Array(this.#capacity * FIELDS);
    this.#checksums = new Uint32Array(this.#capacity);
    this.#types = new Uint8Array(this.#capacity);
    this.#volumes = new Uint16Array(this.#capacity);
    const behind = length - this.#first;
    this.#wide.set(older.wide.subarray(this.#first * FIELDS));
    this.#wide.set(older.wide.subarray(0, this.#first * FIELDS), behind * FIELDS);
    this.#checksums.set(older.checksums.subarray(this.#first));
    this.#checksums.set(older.checksums.subarray(0, this.#first), behind);
    this.#types.set(older.types.subarray(this.#first));
    this.#types.set(older.types.subarray(0, this.#first), behind);
    this.#volumes.set(older.volumes.subarray(this.#first));
    this.#volumes.set(older.volumes.subarray(0, this.#first), behind);
    this.#first = 0;
  }
}
