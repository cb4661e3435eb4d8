/**
 * The answer to "where are these bytes": runs that follow one another, used again for every look-up.
 * Always holds: runs are in address order and cover the range asked for without holes (a gap is a run of its own).
 */
export class RunList {
  count = 0;
  #starts: number[] = [];
  #ends: number[] = [];
  #places: number[] = [];

  start(index: number): number {
    return this.#starts[index] as number;
  }

  end(index: number): number {
    return this.#ends[index] as number;
  }

  /** A journal position, or a Place. */
  place(index: number): number {
    return this.#places[index] as number;
  }

  clear(): void {
    this.count = 0;
  }

  /** Appends a run; joined with the one before where both have the same content without bytes. */
  push(start: number, end: number, place: number): void {
    const last = this.count - 1;
    if (place < 0 && last >= 0 && this.#places[last] === place) {
      this.#ends[last] = end;
      return;
    }
    this.#starts[this.count] = start;
    this.#ends[this.count] = end;
    this.#places[this.count] = place;
    this.count += 1;
  }
}
