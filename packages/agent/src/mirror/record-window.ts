/**
 * The window: every record that is not yet durable at the hub, ready to be sent again. It bounds the
 * agent's memory (promise BOUND): `bytes` counts whole frames and never passes the limit by more than
 * the records that must not be lost (span begin and end, volume added).
 *
 * Always holds: numbers rise from the oldest to the newest; `sent` of them, from the oldest on, have been handed to the
 * current connection. The payload slices are those that the guest sent, never copies, or what they were compressed to; they are
 * held while they are in the window.
 */
import { holdBytes, releaseBytes } from '@rephub/platform';
import { FRAME_OVERHEAD_BYTES } from '@rephub/protocol';

const FIRST_CAPACITY = 1024;
const NOTHING = Buffer.alloc(0);
const NO_DATA: readonly Buffer[] = [];

export interface FrameTarget {
  /** The array is used again; the bytes are never changed. */
  send(buffers: readonly Uint8Array[]): void;
}

export class RecordWindow {
  readonly limitBytes: number;
  readonly #out: Uint8Array[] = [];
  #capacity = FIRST_CAPACITY;
  #head = 0;
  #count = 0;
  #sent = 0;
  #bytes = 0;
  #numbers = new Float64Array(FIRST_CAPACITY);
  #sizes = new Float64Array(FIRST_CAPACITY);
  #bornMs = new Float64Array(FIRST_CAPACITY);
  #volumes = new Uint16Array(FIRST_CAPACITY);
  #offsets = new Float64Array(FIRST_CAPACITY);
  #lengths = new Float64Array(FIRST_CAPACITY);
  #previousChecksums = new Uint32Array(FIRST_CAPACITY);
  #heads: Buffer[] = new Array<Buffer>(FIRST_CAPACITY).fill(NOTHING);
  #data: (readonly Buffer[])[] = new Array<readonly Buffer[]>(FIRST_CAPACITY).fill(NO_DATA);
  #tails: Buffer[] = new Array<Buffer>(FIRST_CAPACITY).fill(NOTHING);

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#count;
  }

  get unsentCount(): number {
    return this.#count - this.#sent;
  }

  /** 0 when the window is empty. */
  get firstNumber(): number {
    return this.#count === 0 ? 0 : (this.#numbers[this.#head] ?? 0);
  }

  /** 0 when the window is empty. */
  get lastNumber(): number {
    return this.#count === 0 ? 0 : (this.#numbers[this.#slot(this.#count - 1)] ?? 0);
  }

  /** The number of the last record that was sent; the one before the oldest when none was. Call only while `count` > 0. */
  get sentThrough(): number {
    return this.#sent === 0 ? this.firstNumber - 1 : (this.#numbers[this.#slot(this.#sent - 1)] ?? 0);
  }

  /** The header checksum of the record before the oldest one. */
  get previousChecksum(): number {
    return this.#previousChecksums[this.#head] ?? 0;
  }

  /** When the oldest record was made, on the monotonic clock; null when the window is empty. */
  get oldestBornMs(): number | null {
    return this.#count === 0 ? null : (this.#bornMs[this.#head] ?? 0);
  }

  /** An empty window takes one record, however large: or a small window could never take a large one. */
  hasRoomFor(payloadBytes: number): boolean {
    return this.#count === 0 || this.#bytes + payloadBytes + FRAME_OVERHEAD_BYTES <= this.limitBytes;
  }

  /** `head`, the slices of `data` and `tail` are the frame, kept as they are. */
  push(
    number: number,
    volume: number,
    offset: number,
    length: number,
    previousChecksum: number,
    bornMs: number,
    head: Buffer,
    data: readonly Buffer[],
    tail: Buffer,
    payloadBytes: number,
  ): void {
    if (this.#count === this.#capacity) this.#grow();
    const slot = this.#slot(this.#count);
    const size = payloadBytes + FRAME_OVERHEAD_BYTES;
    this.#numbers[slot] = number;
    this.#sizes[slot] = size;
    this.#bornMs[slot] = bornMs;
    this.#volumes[slot] = volume;
    this.#offsets[slot] = offset;
    this.#lengths[slot] = length;
    this.#previousChecksums[slot] = previousChecksum;
    this.#heads[slot] = head;
    this.#data[slot] = data;
    holdBytes(data);
    this.#tails[slot] = tail;
    this.#count++;
    this.#bytes += size;
  }

  /** Sends the oldest record that was not sent yet. Call only while `unsentCount` > 0. Returns the bytes of its frame. */
  sendNext(target: FrameTarget): number {
    const slot = this.#slot(this.#sent);
    const data = this.#data[slot] ?? NO_DATA;
    const out = this.#out;
    out.length = 0;
    out.push(this.#heads[slot] ?? NOTHING);
    for (let at = 0; at < data.length; at++) out.push(data[at] ?? NOTHING);
    const tail = this.#tails[slot] ?? NOTHING;
    if (tail.length > 0) out.push(tail);
    target.send(out);
    this.#sent++;
    return this.#sizes[slot] ?? 0;
  }

  /** Forgets all records up to `number`: the hub has them durably. */
  dropThrough(number: number): void {
    while (this.#count > 0 && (this.#numbers[this.#head] ?? 0) <= number) this.#dropOldest();
  }

  /** A new connection: what is left will be sent again from the oldest on. */
  rewind(): void {
    this.#sent = 0;
  }

  /** Forgets everything, telling the range of each record that is lost with it. */
  abandon(lost: (volume: number, offset: number, length: number) => void): void {
    while (this.#count > 0) {
      const length = this.#lengths[this.#head] ?? 0;
      if (length > 0) lost(this.#volumes[this.#head] ?? 0, this.#offsets[this.#head] ?? 0, length);
      this.#dropOldest();
    }
  }

  #dropOldest(): void {
    const slot = this.#head;
    this.#bytes -= this.#sizes[slot] ?? 0;
    this.#heads[slot] = NOTHING;
    releaseBytes(this.#data[slot] ?? NO_DATA);
    this.#data[slot] = NO_DATA;
    this.#tails[slot] = NOTHING;
    this.#head = (slot + 1) & (this.#capacity - 1);
    this.#count--;
    if (this.#sent > 0) this.#sent--;
  }

  #slot(index: number): number {
    return (this.#head + index) & (this.#capacity - 1);
  }

  #grow(): void {
    const from = this.#capacity;
    const order = (at: number): number => (this.#head + at) & (from - 1);
    const floats = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const grown = new Float64Array(from * 2);
      for (let at = 0; at < from; at++) grown[at] = old[order(at)] ?? 0;
      return grown;
    };
    this.#numbers = floats(this.#numbers);
    this.#sizes = floats(this.#sizes);
    this.#bornMs = floats(this.#bornMs);
    this.#offsets = floats(this.#offsets);
    this.#lengths = floats(this.#lengths);
    const volumes = new Uint16Array(from * 2);
    const checksums = new Uint32Array(from * 2);
    const heads = new Array<Buffer>(from * 2).fill(NOTHING);
    const tails = new Array<Buffer>(from * 2).fill(NOTHING);
    const data = new Array<readonly Buffer[]>(from * 2).fill(NO_DATA);
    for (let at = 0; at < from; at++) {
      volumes[at] = this.#volumes[order(at)] ?? 0;
      checksums[at] = this.#previousChecksums[order(at)] ?? 0;
      heads[at] = this.#heads[order(at)] ?? NOTHING;
      tails[at] = this.#tails[order(at)] ?? NOTHING;
      data[at] = this.#data[order(at)] ?? NO_DATA;
    }
    this.#volumes = volumes;
    this.#previousChecksums = checksums;
    this.#heads = heads;
    this.#tails = tails;
    this.#data = data;
    this.#head = 0;
    this.#capacity = from * 2;
  }
}
