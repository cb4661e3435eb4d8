/**
 * Blocks of memory that are taken, filled with payload, given back and used again: made and dropped at the speed of a
 * stream they would keep the garbage collector busy, and the kernel with clearing pages.
 *
 * Always holds: a block belongs to one taker at a time; at most MOST_FREE_BLOCKS wait for their next use.
 */
export const BLOCK_BYTES = 256 * 1024;
const MOST_FREE_BLOCKS = 64;

const free: Buffer[] = [];

/** What one taker holds, given out piece after piece. */
export class PooledBlocks {
  readonly #blocks: Buffer[] = [];
  /** Used bytes of the last block. */
  #used = BLOCK_BYTES;

  /** Room for at least one of the bytes that are wanted, in one piece; valid until `release`. */
  next(wantedBytes: number): Buffer {
    const block = this.#blockWithRoom();
    const from = this.#used;
    this.#used = Math.min(BLOCK_BYTES, from + wantedBytes);
    return block.subarray(from, this.#used);
  }

  /** Copies the bytes behind what is here. */
  add(bytes: Uint8Array): void {
    let from = 0;
    while (from < bytes.length) {
      const block = this.#blockWithRoom();
      const step = Math.min(bytes.length - from, BLOCK_BYTES - this.#used);
      block.set(step === bytes.length ? bytes : bytes.subarray(from, from + step), this.#used);
      this.#used += step;
      from += step;
    }
  }

  /** All room that was given out, in order, whole blocks as one; valid until `release`. */
  slices(): readonly Buffer[] {
    const last = this.#blocks.length - 1;
    return this.#blocks.map((block, at) => (at === last ? block.subarray(0, this.#used) : block));
  }

  /** The bytes are needed no longer, and nobody writes into them any more. */
  release(): void {
    for (const block of this.#blocks) if (free.length < MOST_FREE_BLOCKS) free.push(block);
    this.#blocks.length = 0;
    this.#used = BLOCK_BYTES;
  }

  #blockWithRoom(): Buffer {
    const last = this.#blocks[this.#blocks.length - 1];
    if (last !== undefined && this.#used < BLOCK_BYTES) return last;
    const block = free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
    this.#blocks.push(block);
    this.#used = 0;
    return block;
  }
}
