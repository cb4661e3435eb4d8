/** Byte ranges of one disk: a set that neither overlaps nor touches, in order. Pure. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
}

export class Ranges {
  #starts: number[] = [];
  #ends: number[] = [];

  get count(): number {
    return this.#starts.length;
  }

  get bytes(): number {
    let bytes = 0;
    for (const [at, start] of this.#starts.entries()) bytes += (this.#ends[at] ?? start) - start;
    return bytes;
  }

  /** What of the range is not in the set. */
  missing(start: number, end: number): Piece[] {
    const pieces: Piece[] = [];
    let at = start;
    for (let index = this.#firstEndingAfter(start); at < end; index++) {
      const next = Math.min(end, this.#starts[index] ?? Infinity);
      if (next > at) pieces.push({ offset: at, length: next - at });
      at = this.#ends[index] ?? Infinity;
    }
    return pieces;
  }

  /** What of the range is in the set. */
  within(start: number, end: number): Piece[] {
    const pieces: Piece[] = [];
    if (start === end) return pieces;
    for (let index = this.#firstEndingAfter(start); (this.#starts[index] ?? Infinity) < end; index++) {
      const offset = Math.max(start, this.#starts[index] ?? start);
      pieces.push({ offset, length: Math.min(end, this.#ends[index] ?? end) - offset });
    }
    return pieces;
  }

  add(start: number, end: number): void {
    const first = this.#firstEndingAfter(start - 1);
    let last = first;
    while (last < this.#starts.length && (this.#starts[last] ?? 0) <= end) last++;
    const from = first < last ? Math.min(start, this.#starts[first] ?? start) : start;
    const to = first < last ? Math.max(end, this.#ends[last - 1] ?? end) : end;
    this.#starts.splice(first, last - first, from);
    this.#ends.splice(first, last - first, to);
  }

  remove(start: number, end: number): void {
    const first = this.#firstEndingAfter(start);
    let last = first;
    while ((this.#starts[last] ?? Infinity) < end) last++;
    if (first === last) return;
    const from = this.#starts[first] ?? start;
    const to = this.#ends[last - 1] ?? end;
    const kept: [number, number][] = [];
    if (from < start) kept.push([from, start]);
    if (to > end) kept.push([end, to]);
    this.#starts.splice(first, last - first, ...kept.map(([at]) => at));
    this.#ends.splice(first, last - first, ...kept.map(([, at]) => at));
  }

  #firstEndingAfter(position: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ends[middle] ?? 0) > position) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
