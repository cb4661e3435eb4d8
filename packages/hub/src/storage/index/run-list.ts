/**
 * The answer to "where are these bytes": runs that follow one another, used again for every look-up.
 * Always holds: runs are in address order and cover the range asked for without holes (a gap is a run of its own).
 */
import type { ExtentIndex } from './extent-index.js';
import { Place } from './extent-leaf.js';

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

/** Looks a range up in several indexes, newest first: each fills the gaps that those before it left. */
export class Resolver {
  #runs = new RunList();
  #next = new RunList();
  #gaps = false;

  /** The runs so far. */
  get runs(): RunList {
    return this.#runs;
  }

  /** True while something is left to be found. */
  get gaps(): boolean {
    return this.#gaps;
  }

  begin(start: number, end: number): void {
    this.#runs.clear();
    this.#runs.push(start, end, Place.Gap);
    this.#gaps = true;
  }

  fill(index: ExtentIndex): void {
    const runs = this.#runs;
    const next = this.#next;
    next.clear();
    for (let run = 0; run < runs.count; run += 1) {
      const place = runs.place(run);
      if (place === Place.Gap) index.lookUp(runs.start(run), runs.end(run), next);
      else next.push(runs.start(run), runs.end(run), place);
    }
    let gaps = false;
    for (let run = 0; run < next.count && !gaps; run += 1) gaps = next.place(run) === Place.Gap;
    this.#gaps = gaps;
    this.#runs = next;
    this.#next = runs;
  }
}
