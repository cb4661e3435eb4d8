/**
 * Looks a range up in several indexes, newest first.
 * Always holds: the runs cover the range asked for; what is found in one index hides what older ones say of it.
 */
import type { ExtentIndex } from './extent-index.js';
import { Place } from './extent-leaf.js';
import { RunList } from './run-list.js';

/** Each index fills the gaps that those before it left. */
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
