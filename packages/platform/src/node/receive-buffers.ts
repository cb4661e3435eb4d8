/**
 * Where a connection reads into: one slab per connection, handed out part by part and never written twice,
 * so that whoever receives a chunk may keep slices of it for good.
 *
 * Always holds:
 *  - no two parts handed out overlap; a slab is let go of, never reused (the garbage collector frees it), but
 *    where the receiver asked for chunks that are counted: then a slab is used again once nobody holds it;
 *  - a quiet connection holds SMALLEST bytes: slabs grow only while reads fill what they are given, and
 *    shrink when a slab was used up in reads much smaller than itself;
 *  - the slabs above SMALLEST of all connections together stay within BUDGET_BYTES, because a connection
 *    that was busy and fell silent keeps its last one.
 * Must not know: sockets.
 */
import { type CountedSlab, SlabPool } from '../counted-memory.js';

export const SMALLEST_SLAB_BYTES = 8 * 1024;
export const LARGEST_SLAB_BYTES = 256 * 1024;
const BUDGET_BYTES = 48 * 1024 * 1024;
const GROWTH = 4;
/** A rest below this part of the slab (and below REST_BYTES) is not worth a system call. */
const REST_PART = 4;
const REST_BYTES = 64 * 1024;
/** Reads all smaller than this part of the slab make the next slab smaller. */
const QUIET_PART = 16;

let heldByAllBytes = 0;
const pool = new SlabPool();

/** Bytes that the large slabs of all connections hold; for tests and metrics. */
export function heldSlabBytes(): number {
  return heldByAllBytes;
}

export class ReceiveBuffers {
  #slab: Buffer = Buffer.allocUnsafeSlow(SMALLEST_SLAB_BYTES);
  #usedBytes = 0;
  #wantedBytes = SMALLEST_SLAB_BYTES;
  #largestReadBytes = 0;
  #heldBytes = 0;
  /** The slab's count; null where slabs are not counted. */
  #counted: CountedSlab | null = null;

  /** From now on a slab is used again when nobody holds it. What was handed out before stays as it is for good. */
  count(): void {
    if (this.#counted !== null) return;
    this.#counted = pool.take(this.#slab.length);
    this.#slab = this.#counted.memory;
    this.#usedBytes = 0;
  }

  /** The next part to read into; its length is at least a quarter of the smallest slab. */
  next(): Buffer {
    if (this.#counted?.holds === 1) this.#usedBytes = 0;
    const restBytes = this.#slab.length - this.#usedBytes;
    if (restBytes < Math.min(REST_BYTES, this.#slab.length / REST_PART) || this.#wantedBytes > this.#slab.length) {
      this.#replaceSlab();
    }
    return this.#usedBytes === 0 ? this.#slab : this.#slab.subarray(this.#usedBytes);
  }

  /** Takes note that the first `countBytes` of `part`, the last one handed out, have been read into. */
  took(part: Buffer, countBytes: number): void {
    this.#usedBytes += countBytes;
    if (countBytes > this.#largestReadBytes) this.#largestReadBytes = countBytes;
    if (countBytes === part.length && this.#wantedBytes < LARGEST_SLAB_BYTES) {
      this.#wantedBytes = Math.min(LARGEST_SLAB_BYTES, this.#slab.length * GROWTH);
    }
  }

  /** Gives the slab up; call it when the connection is gone. */
  release(): void {
    heldByAllBytes -= this.#heldBytes;
    this.#heldBytes = 0;
    this.#slab = Buffer.alloc(0);
    this.#counted?.release();
    this.#counted = null;
    this.#usedBytes = 0;
  }

  #replaceSlab(): void {
    let sizeBytes = this.#wantedBytes;
    if (
      sizeBytes === this.#slab.length &&
      sizeBytes > SMALLEST_SLAB_BYTES &&
      this.#largestReadBytes < sizeBytes / QUIET_PART
    ) {
      sizeBytes = Math.max(SMALLEST_SLAB_BYTES, sizeBytes / GROWTH);
    }
    heldByAllBytes -= this.#heldBytes;
    if (sizeBytes > SMALLEST_SLAB_BYTES && heldByAllBytes + sizeBytes > BUDGET_BYTES) sizeBytes = SMALLEST_SLAB_BYTES;
    this.#heldBytes = sizeBytes > SMALLEST_SLAB_BYTES ? sizeBytes : 0;
    heldByAllBytes += this.#heldBytes;
    this.#wantedBytes = sizeBytes;
    if (this.#counted === null) {
      this.#slab = Buffer.allocUnsafeSlow(sizeBytes);
    } else {
      this.#counted.release();
      this.#counted = pool.take(sizeBytes);
      this.#slab = this.#counted.memory;
    }
    this.#usedBytes = 0;
    this.#largestReadBytes = 0;
  }
}
