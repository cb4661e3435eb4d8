/**
 * The bytes of one simulated file: sparse pages and a size, changed only by whole Changes, so that the same
 * change can be made to what readers see now and, after a sync or a crash, to what is on the disk.
 *
 * Always holds: a page that is missing reads as zeroes and takes no room; bytes beyond the size are zero.
 */
export const PAGE_BYTES = 4096;

export type Change =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly sizeBytes: number }
  | { readonly kind: 'punch'; readonly position: number; readonly lengthBytes: number }
  | { readonly kind: 'allocate'; readonly position: number; readonly lengthBytes: number };

/** Shared by all pages that were allocated and never written; never written to. */
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);

export class Content {
  #sizeBytes = 0;
  readonly #pages = new Map<number, Uint8Array>();
  /** Page numbers in order; null when it must be made again. */
  #sorted: number[] | null = null;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get allocatedBytes(): number {
    return this.#pages.size * PAGE_BYTES;
  }

  clone(): Content {
    const copy = new Content();
    copy.#sizeBytes = this.#sizeBytes;
    for (const [number, page] of this.#pages) copy.#pages.set(number, page === ZERO_PAGE ? page : page.slice());
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
      const part = Math.min(PAGE_BYTES - offset, count - done);
      const page = this.#pages.get(Math.floor(at / PAGE_BYTES));
      if (page === undefined) buffer.fill(0, done, done + part);
      else buffer.set(page.subarray(offset, offset + part), done);
      done += part;
    }
    return count;
  }

  nextData(position: number): { position: number; lengthBytes: number } | null {
    if (position >= this.#sizeBytes) return null;
    this.#sorted ??= [...this.#pages.keys()].sort((a, b) => a - b);
    const sorted = this.#sorted;
    const from = Math.floor(position / PAGE_BYTES);
    let index = sorted.findIndex((number) => number >= from);
    const first = sorted[index];
    if (first === undefined || first * PAGE_BYTES >= this.#sizeBytes) return null;
    let last = first;
    while (sorted[index + 1] === last + 1) {
      index += 1;
      last += 1;
    }
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

  #write(position: number, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const at = position + done;
      const number = Math.floor(at / PAGE_BYTES);
      const offset = at % PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - offset, bytes.length - done);
      this.#ownPage(number).set(bytes.subarray(done, done + part), offset);
      done += part;
    }
    if (bytes.length > 0) this.growTo(position + bytes.length);
  }

  #zero(position: number, end: number): void {
    const first = Math.floor(position / PAGE_BYTES);
    for (const number of [...this.#pages.keys()]) {
      if (number < first || number * PAGE_BYTES >= end) continue;
      const from = Math.max(0, position - number * PAGE_BYTES);
      const to = Math.min(PAGE_BYTES, end - number * PAGE_BYTES);
      if (from === 0 && to === PAGE_BYTES) {
        this.#pages.delete(number);
        this.#sorted = null;
      } else this.#ownPage(number).fill(0, from, to);
    }
  }

  #allocate(position: number, end: number): void {
    for (let number = Math.floor(position / PAGE_BYTES); number * PAGE_BYTES < end; number += 1) {
      if (this.#pages.has(number)) continue;
      this.#pages.set(number, ZERO_PAGE);
      this.#sorted = null;
    }
    this.growTo(end);
  }

  #ownPage(number: number): Uint8Array {
    let page = this.#pages.get(number);
    if (page === undefined) this.#sorted = null;
    if (page === undefined || page === ZERO_PAGE) {
      page = new Uint8Array(PAGE_BYTES);
      this.#pages.set(number, page);
    }
    return page;
  }
}
