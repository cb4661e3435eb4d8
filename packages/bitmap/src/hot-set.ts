/**
 * The slots of hot extents in memory: which extent sits where, how many writes are in flight in it, which
 * of its blocks were written since it was last proven, and who was used least recently. Pure state.
 *
 * Always holds:
 *  - `raiseAll` says true only for extents that are `hot`: their slot is durable in hot.log;
 *  - a slot with writes in flight is never removed;
 *  - `touched` covers every block written by a record whose number or ticket is not yet proven;
 *  - nothing here allocates once it is made.
 * Must not know: files, the fine bitmap.
 */
import { assert } from '@rephub/platform';
import { EXTENT_BYTES, extentKey, NO_EXTENT } from './geometry.js';

const FREE = 0;
/** In a transaction that is not durable yet. */
const ARRIVING = 1;
const HOT = 2;

/** How far the fine bitmap on the disk covers what a slot must leave behind when it is cooled. */
export const NOT_READY = 0;
/** Its marks are in an image that is being written; any change of them makes it not ready again. */
export const PREPARING = 1;
export const READY = 2;

export class HotSet {
  readonly slots: number;
  readonly blocksPerExtent: number;
  readonly #keys: Uint32Array;
  readonly #states: Uint8Array;
  readonly #readiness: Uint8Array;
  readonly #inFlight: Uint32Array;
  readonly #numbers: Float64Array;
  readonly #tickets: Float64Array;
  readonly #touched: Uint32Array;
  readonly #touchedWords: number;
  /** Neighbours in order of use; element `slots` is the anchor: newer than it is the oldest, older than it the newest. */
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  /** Open addressing; holds slot + 1, 0 where nothing is. */
  readonly #table: Int32Array;
  readonly #tableShift: number;

  constructor(slots: number, granularityBytes: number) {
    this.slots = slots;
    this.blocksPerExtent = EXTENT_BYTES / granularityBytes;
    this.#touchedWords = Math.ceil(this.blocksPerExtent / 32);
    this.#keys = new Uint32Array(slots).fill(NO_EXTENT);
    this.#states = new Uint8Array(slots);
    this.#readiness = new Uint8Array(slots);
    this.#inFlight = new Uint32Array(slots);
    this.#numbers = new Float64Array(slots);
    this.#tickets = new Float64Array(slots);
    this.#touched = new Uint32Array(slots * this.#touchedWords);
    this.#newer = new Int32Array(slots + 1).fill(slots);
    this.#older = new Int32Array(slots + 1).fill(slots);
    this.#free = Int32Array.from({ length: slots }, (_, index) => slots - 1 - index);
    this.#freeCount = slots;
    const bits = Math.ceil(Math.log2(slots * 4));
    this.#table = new Int32Array(2 ** bits);
    this.#tableShift = 32 - bits;
  }

  /** Slots in use, those under way to the disk included. */
  get used(): number {
    return this.slots - this.#freeCount;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** The slot of an extent, hot or arriving; -1 when it has none. */
  find(key: number): number {
    const mask = this.#table.length - 1;
    for (let at = this.#home(key); ; at = (at + 1) & mask) {
      const slot = (this.#table[at] ?? 0) - 1;
      if (slot < 0 || this.#keys[slot] === key) return slot;
    }
  }

  keyOf(slot: number): number {
    return this.#keys[slot] ?? NO_EXTENT;
  }

  isIdle(slot: number): boolean {
    return this.#inFlight[slot] === 0;
  }

  inFlight(slot: number): number {
    return this.#inFlight[slot] ?? 0;
  }

  numberOf(slot: number): number {
    return this.#numbers[slot] ?? 0;
  }

  ticketOf(slot: number): number {
    return this.#tickets[slot] ?? 0;
  }

  isProven(slot: number, number: number, ticket: number): boolean {
    return this.numberOf(slot) <= number && this.ticketOf(slot) <= ticket;
  }

  readiness(slot: number): number {
    return this.#readiness[slot] ?? NOT_READY;
  }

  setReadiness(slot: number, readiness: number): void {
    this.#readiness[slot] = readiness;
  }

  /** The slot used least recently, or -1. */
  oldest(): number {
    return this.newerThan(this.slots);
  }

  /** The slot used next after this one, or -1. */
  newerThan(slot: number): number {
    const newer = this.#newer[slot] ?? this.slots;
    return newer === this.slots ? -1 : newer;
  }

  /** Raises the in-flight counts of extents `first` to `last`, when all of them are hot; else changes nothing. */
  raiseAll(volume: number, first: number, last: number): boolean {
    for (let extent = first; extent <= last; extent += 1) {
      const slot = this.find(extentKey(volume, extent));
      if (slot < 0 || this.#states[slot] !== HOT) return false;
    }
    for (let extent = first; extent <= last; extent += 1) this.raise(this.find(extentKey(volume, extent)));
    return true;
  }

  /** One more write in flight there. */
  raise(slot: number): void {
    this.#inFlight[slot] = (this.#inFlight[slot] ?? 0) + 1;
    this.#readiness[slot] = NOT_READY;
    if (this.#newer[slot] !== this.slots) {
      this.#unlink(slot);
      this.#linkNewest(slot);
    }
  }

  /** One write less, without a trace. */
  lower(slot: number): void {
    const inFlight = this.#inFlight[slot] ?? 0;
    assert(inFlight > 0, 'a write ends only where one has begun');
    this.#inFlight[slot] = inFlight - 1;
  }

  /** Blocks `from` to `to` - 1 of the extent were written by a record with this number and ticket. */
  touch(slot: number, from: number, to: number, number: number, ticket: number): void {
    if (number > (this.#numbers[slot] ?? 0)) this.#numbers[slot] = number;
    if (ticket > (this.#tickets[slot] ?? 0)) this.#tickets[slot] = ticket;
    const base = slot * this.#touchedWords;
    for (let block = from; block < to;) {
      const until = Math.min(to, (block | 31) + 1);
      const mask = (0xffff_ffff >>> (32 - (until - block))) << (block & 31);
      const index = base + (block >>> 5);
      this.#touched[index] = (this.#touched[index] ?? 0) | mask;
      block = until;
    }
  }

  /** All its records are proven, or have been handed on: nothing of it is touched any more. */
  forgetTouched(slot: number): void {
    this.#numbers[slot] = 0;
    this.#tickets[slot] = 0;
    const base = slot * this.#touchedWords;
    for (let index = 0; index < this.#touchedWords; index += 1) this.#touched[base + index] = 0;
  }

  /** The first run of touched blocks at or after `from`, as start × 2048 + end; -1 when there is none. */
  nextTouched(slot: number, from: number): number {
    let start = from;
    while (start < this.blocksPerExtent && !this.#isTouched(slot, start)) start += 1;
    if (start >= this.blocksPerExtent) return -1;
    let end = start + 1;
    while (end < this.blocksPerExtent && this.#isTouched(slot, end)) end += 1;
    return start * 2048 + end;
  }

  /** Takes a free slot for the extent, arriving; it counts one write in flight. There must be a free one. */
  assign(key: number): number {
    assert(this.#freeCount > 0, 'a slot is free');
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount] ?? 0;
    this.#occupy(slot, key, ARRIVING);
    this.#inFlight[slot] = 1;
    return slot;
  }

  /** Puts an extent that recovery found back into its slot, hot and idle. */
  restore(slot: number, key: number): void {
    const index = this.#free.indexOf(slot);
    assert(index >= 0 && index < this.#freeCount, 'the slot is free');
    this.#freeCount -= 1;
    this.#free[index] = this.#free[this.#freeCount] ?? 0;
    this.#occupy(slot, key, HOT);
  }

  /** Its transaction is durable. */
  arrived(slot: number): void {
    if (this.#states[slot] === ARRIVING) this.#states[slot] = HOT;
  }

  /** The extent is cold from now on; its slot can be used again. */
  remove(slot: number): void {
    assert(this.#inFlight[slot] === 0, 'an extent with writes in flight stays hot');
    this.#forget(this.#keys[slot] ?? NO_EXTENT);
    this.#unlink(slot);
    this.#keys[slot] = NO_EXTENT;
    this.#states[slot] = FREE;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  #isTouched(slot: number, block: number): boolean {
    return (((this.#touched[slot * this.#touchedWords + (block >>> 5)] ?? 0) >>> (block & 31)) & 1) === 1;
  }

  #occupy(slot: number, key: number, state: number): void {
    this.#keys[slot] = key;
    this.#states[slot] = state;
    this.#readiness[slot] = NOT_READY;
    this.#inFlight[slot] = 0;
    this.forgetTouched(slot);
    this.#linkNewest(slot);
    const mask = this.#table.length - 1;
    let at = this.#home(key);
    while (this.#table[at] !== 0) at = (at + 1) & mask;
    this.#table[at] = slot + 1;
  }

  /** Takes the key out of the table and moves up what would not be found behind the gap. */
  #forget(key: number): void {
    const mask = this.#table.length - 1;
    let gap = this.#home(key);
    while (this.#keys[(this.#table[gap] ?? 0) - 1] !== key) gap = (gap + 1) & mask;
    for (let at = (gap + 1) & mask; this.#table[at] !== 0; at = (at + 1) & mask) {
      const home = this.#home(this.#keys[(this.#table[at] ?? 0) - 1] ?? 0);
      if (((at - home) & mask) >= ((at - gap) & mask)) {
        this.#table[gap] = this.#table[at] ?? 0;
        gap = at;
      }
    }
    this.#table[gap] = 0;
  }

  #home(key: number): number {
    return Math.imul(key, 0x9e37_79b1) >>> this.#tableShift;
  }

  #linkNewest(slot: number): void {
    const anchor = this.slots;
    const before = this.#older[anchor] ?? anchor;
    this.#newer[slot] = anchor;
    this.#older[slot] = before;
    this.#newer[before] = slot;
    this.#older[anchor] = slot;
  }

  #unlink(slot: number): void {
    const newer = this.#newer[slot] ?? this.slots;
    const older = this.#older[slot] ?? this.slots;
    this.#newer[older] = newer;
    this.#older[newer] = older;
  }
}
