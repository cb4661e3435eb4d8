/**
 * Bytes that wait for one write, in order. Counted memory, as records come in from the link, is held and not copied;
 * what lies in other memory is copied: whoever handed it over may use it again at once.
 *
 * Always holds: until `release` the bytes stay as they were when they were added.
 */
import { holdSlice, releaseBytes } from '@rephub/platform';
import { PooledBlocks } from '../pooled-blocks.js';

export class QueuedBytes {
  readonly #pieces: Buffer[] = [];
  readonly #copies = new PooledBlocks();
  /** The last piece is held. */
  #isLastHeld = false;

  add(bytes: Buffer): void {
    const last = this.#pieces[this.#pieces.length - 1];
    if (this.#isLastHeld && last !== undefined && isBehind(last, bytes)) {
      // Records follow one another in what was received: one hold and one piece for all of them.
      this.#pieces[this.#pieces.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + bytes.length);
      return;
    }
    this.#isLastHeld = holdSlice(bytes);
    if (this.#isLastHeld) this.#pieces.push(bytes);
    else this.#copy(bytes);
  }

  /** All bytes, in order; valid until `release`. */
  slices(): readonly Buffer[] {
    return this.#pieces;
  }

  /** The bytes are needed no longer. */
  release(): void {
    releaseBytes(this.#pieces);
    this.#pieces.length = 0;
    this.#isLastHeld = false;
    this.#copies.release();
  }

  #copy(bytes: Buffer): void {
    for (let from = 0; from < bytes.length;) {
      const room = this.#copies.next(bytes.length - from);
      room.set(bytes.subarray(from, from + room.length));
      this.#pieces.push(room);
      from += room.length;
    }
  }
}

function isBehind(last: Buffer, bytes: Buffer): boolean {
  return last.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset;
}
