/**
 * Slices for one write; those that follow one another in the same memory are kept as one, so that a thousand
 * records that came in one chunk are one piece for the system call.
 */
export class SliceList {
  readonly #done: Buffer[] = [];
  #memory: ArrayBufferLike | null = null;
  #start = 0;
  #end = 0;

  push(slice: Buffer): void {
    const { buffer, byteOffset, length } = slice;
    if (length === 0) return;
    if (buffer === this.#memory && byteOffset === this.#end) {
      this.#end = byteOffset + length;
      return;
    }
    this.#close();
    this.#memory = buffer;
    this.#start = byteOffset;
    this.#end = byteOffset + length;
  }

  /** All slices, joined. More may be pushed only after what this returned is no longer needed. */
  slices(): readonly Buffer[] {
    this.#close();
    return this.#done;
  }

  #close(): void {
    if (this.#memory !== null) this.#done.push(Buffer.from(this.#memory, this.#start, this.#end - this.#start));
    this.#memory = null;
  }
}
