/**
 * The bytes of one write to the journal, copied together from the chunks that they came in: so the memory that a
 * link receives into can be used again at once, and so can this. Copying costs a tenth of what the garbage
 * collector takes for memory that is made and dropped at the speed of the stream.
 *
 * Always holds: a block belongs to one batch at a time; at most MOST_FREE_BLOCKS wait for their next use.
 */
const BLOCK_BYTES = 256 * 1024;
const MOST_FREE_BLOCKS = 64;

const free: Buffer[] = [];

export class BatchMemory {
  readonly #blocks: Buffer[] = [];
  /** Used bytes of the last block. */
  #used = BLOCK_BYTES;

  add(bytes: Uint8Array): void {
    let from = 0;
    while (from < bytes.length) {
      if (this.#used === BLOCK_BYTES) {
        this.#blocks.push(free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES));
        this.#used = 0;
      }
      const step = Math.min(bytes.length - from, BLOCK_BYTES - this.#used);
      const last = this.#blocks[this.#blocks.length - 1];
      last?.set(step === bytes.length ? bytes : bytes.subarray(from, from + step), this.#used);
      this.#used += step;
      from += step;
    }
  }

  /** All that was added, in order; valid until `release`. */
  slices(): readonly Buffer[] {
    const last = this.#blocks.length - 1;
    return this.#blocks.map((block, at) => (at === last ? block.subarray(0, this.#used) : block));
  }

  /** The bytes are needed no longer. */
  release(): void {
    for (const block of this.#blocks) if (free.length < MOST_FREE_BLOCKS) free.push(block);
    this.#blocks.length = 0;
    this.#used = BLOCK_BYTES;
  }
}
