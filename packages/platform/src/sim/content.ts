/**
 * The bytes of one simulated file: sparse pages and a size, changed only by whole Changes, so that the same
 * change can be made to what readers see now and, after a sync or a crash, to what is on the disk.
 *
 * Always holds: a page that is missing reads as zeroes and takes no room; bytes beyond the size are zero.
 * Pages are shared between contents, and the bytes of a Change with its pages, until one is written to: a page
 * may be changed only by the content whose tag it carries.
 */
import { takeBytes } from './page-memory.js';

export const PAGE_BYTES = 4096;

/** The bytes of a change must never be written to again. */
export type Change =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly sizeBytes: number }
  | { readonly kind: 'punch'; readonly position: number; readonly lengthBytes: number }
  | { readonly kind: 'allocate'; readonly position: number; readonly lengthBytes: number };

/** Who may write to a page. */
type Tag = object;

interface Page {
  readonly bytes: Uint8Array;
  owner: Tag | null;
}

/** All pages that were allocated and never written. */
const ZERO_PAGE: Page = { bytes: new Uint8Array(PAGE_BYTES), owner: null };

export class Content {
  #sizeBytes = 0;
  #pages = new Map<number, Page>();
  /** Another content uses the same map: it is copied before it is changed. */
  #mapIsShared = false;
  #tag: Tag = {};
  /** Page numbers in order; null when it must be made again. */
  #sorted: number[] | null = null;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get allocatedBytes(): number {
    return this.#pages.size * PAGE_BYTES;
  }

  /** The same content again; costs nothing until one of the two is changed. */
  clone(): Content {
    const copy = new Content();
    copy.#sizeBytes = this.#sizeBytes;
    copy.#pages = this.#pages;
    copy.#mapIsShared = this.#mapIsShared = true;
    copy.#sorted = this.#sorted;
    // Whatever carries the old tag is shared from now on.
    this.#tag = {};
    return copy;
  }

  apply(change: Change): void {
    switch (change.kind) {
      case 'write':
        this.#write(change.position, change.bytes);
        break;
      case 'truncate':
        if (change.sizeBytes < this.#sizeBytes) this.#zero(change.sizeBytes, Infinity);
        this.#sizeBytes = change.sizeBytes;
        break;
      case 'punch':
        this.#zero(change.position, Math.min(change.position + change.lengthBytes, this.#sizeBytes));
        break;
      case 'allocate':
        this.#allocate(change.position, change.position + change.lengthBytes);
        break;
    }
  }

  /** As `apply` of changes after which this content is the same as `other`, without a copy. */
  adopt(changes: readonly Change[], other: Content): void {
    this.#ownMap();
    for (const change of changes) {
      if (change.kind === 'truncate') {
        this.apply(change);
        continue;
      }
      const length = change.kind === 'write' ? change.bytes.length : change.lengthBytes;
      if (length === 0) continue;
      const end = Math.min(change.position + length, Math.max(this.#sizeBytes, other.#sizeBytes));
      const first = Math.floor(change.position / PAGE_BYTES);
      if (change.kind === 'punch' && (end - change.position) / PAGE_BYTES > this.#pages.size) {
        this.apply(change);
        continue;
      }
      for (let number = first; number * PAGE_BYTES < end; number += 1) this.#adoptPage(number, other);
    }
    this.#sizeBytes = other.#sizeBytes;
  }

  /** Makes the file at least this large without writing. */
  growTo(sizeBytes: number): void {
    this.#sizeBytes = Math.max(this.#sizeBytes, sizeBytes);
  }

  read(buffer: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(buffer.length, this.#sizeBytes - position));
    let done = 0;
    while (done < count) {
      const at = position + done;
      const offset = at % PAGE_BYTES;
      const number = Math.floor(at / PAGE_BYTES);
      const page = this.#pages.get(number);
      if (page === undefined) {
        const next = this.#nextPage(number);
        const end = next === null ? count : Math.min(count, next * PAGE_BYTES - position);
        buffer.fill(0, done, end);
        done = end;
        continue;
      }
      const part = Math.min(PAGE_BYTES - offset, count - done);
      if (page === ZERO_PAGE) buffer.fill(0, done, done + part);
      else if (part === PAGE_BYTES) buffer.set(page.bytes, done);
      else buffer.set(page.bytes.subarray(offset, offset + part), done);
      done += part;
    }
    return count;
  }

  /** Turns one bit; false when there is no such byte. */
  flipBit(position: number, bit: number): boolean {
    if (position >= this.#sizeBytes) return false;
    const page = this.#ownPage(Math.floor(position / PAGE_BYTES));
    const offset = position % PAGE_BYTES;
    page[offset] = (page[offset] ?? 0) ^ (1 << (bit & 7));
    return true;
  }

  /** Where there is data, in order. */
  *data(): Iterable<{ readonly position: number; readonly lengthBytes: number }> {
    for (let run = this.nextData(0); run !== null; run = this.nextData(run.position + run.lengthBytes)) yield run;
  }

  /**
   * Every page that takes room, in no order, with its number. A page that is `settled` never changes again: what it holds
   * may be remembered by it.
   */
  eachPage(visit: (number: number, bytes: Uint8Array, isSettled: boolean) => void): void {
    for (const [number, page] of this.#pages) visit(number, page.bytes, page.owner !== this.#tag);
  }

  nextData(position: number): { position: number; lengthBytes: number } | null {
    if (position >= this.#sizeBytes) return null;
    const first = this.#nextPage(Math.floor(position / PAGE_BYTES));
    if (first === null || first * PAGE_BYTES >= this.#sizeBytes) return null;
    let last = first;
    while (this.#pages.has(last + 1)) last += 1;
    const start = Math.max(position, first * PAGE_BYTES);
    return { position: start, lengthBytes: Math.min((last + 1) * PAGE_BYTES, this.#sizeBytes) - start };
  }

  /** How many more bytes of room a write or an allocation of the range would take. */
  missingBytes(position: number, lengthBytes: number): number {
    let missing = 0;
    const end = position + lengthBytes;
    for (let number = Math.floor(position / PAGE_BYTES); number * PAGE_BYTES < end; number += 1) {
      if (!this.#pages.has(number)) missing += PAGE_BYTES;
    }
    return missing;
  }

  #nextPage(from: number): number | null {
    if (this.#pages.has(from)) return from;
    this.#sorted ??= [...this.#pages.keys()].sort((a, b) => a - b);
    const sorted = this.#sorted;
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sorted[middle] ?? 0) < from) low = middle + 1;
      else high = middle;
    }
    return sorted[low] ?? null;
  }

  #write(position: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    let done = 0;
    while (done < bytes.length) {
      const at = position + done;
      const number = Math.floor(at / PAGE_BYTES);
      const offset = at % PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - offset, bytes.length - done);
      if (part === PAGE_BYTES) this.#setPage(number, { bytes: bytes.subarray(done, done + part), owner: null });
      else this.#ownPage(number).set(bytes.subarray(done, done + part), offset);
      done += part;
    }
    this.growTo(position + bytes.length);
  }

  #zero(position: number, end: number): void {
    const first = Math.floor(position / PAGE_BYTES);
    const pages = (end - position) / PAGE_BYTES + 2;
    if (pages < this.#pages.size) {
      for (let number = first; number * PAGE_BYTES < end; number += 1) this.#zeroPart(number, position, end);
      return;
    }
    for (const number of [...this.#pages.keys()]) {
      if (number >= first && number * PAGE_BYTES < end) this.#zeroPart(number, position, end);
    }
  }

  #zeroPart(number: number, position: number, end: number): void {
    if (!this.#pages.has(number)) return;
    const from = Math.max(0, position - number * PAGE_BYTES);
    const to = Math.min(PAGE_BYTES, end - number * PAGE_BYTES);
    if (from === 0 && to === PAGE_BYTES) this.#dropPage(number);
    else this.#ownPage(number).fill(0, from, to);
  }

  #allocate(position: number, end: number): void {
    for (let number = Math.floor(position / PAGE_BYTES); number * PAGE_BYTES < end; number += 1) {
      if (!this.#pages.has(number)) this.#setPage(number, ZERO_PAGE);
    }
    this.growTo(end);
  }

  #adoptPage(number: number, other: Content): void {
    const page = other.#pages.get(number);
    if (page === undefined) {
      if (this.#pages.has(number)) this.#dropPage(number);
      return;
    }
    page.owner = null;
    this.#setPage(number, page);
  }

  /** The page's bytes, to be written to. */
  #ownPage(number: number): Uint8Array {
    const page = this.#pages.get(number);
    if (page?.owner === this.#tag) return page.bytes;
    const bytes = takeBytes(PAGE_BYTES);
    if (page !== undefined) bytes.set(page.bytes);
    else bytes.fill(0);
    this.#setPage(number, { bytes, owner: this.#tag });
    return bytes;
  }

  #setPage(number: number, page: Page): void {
    this.#ownMap();
    if (this.#sorted !== null && !this.#pages.has(number)) this.#sorted = null;
    this.#pages.set(number, page);
  }

  #dropPage(number: number): void {
    this.#ownMap();
    this.#sorted = null;
    this.#pages.delete(number);
  }

  #ownMap(): void {
    if (!this.#mapIsShared) return;
    this.#pages = new Map(this.#pages);
    this.#mapIsShared = false;
  }
}
