/** Runs of blocks: those of a bitmap and others, put together in order. Pure. */
import type { BlockBits } from './block-bits.js';

export interface BlockRun {
  readonly from: number;
  readonly to: number;
}

/** The union of what is set and of `others` (in any order, overlapping as they like): disjoint, ascending, never touching. */
export function* unionOfRuns(bits: BlockBits, others: readonly BlockRun[]): Generator<BlockRun> {
  const sorted = [...others].sort((a, b) => a.from - b.from);
  let next = 0;
  let at = 0;
  while (at < bits.length) {
    const set = bits.nextSet(at);
    let other = sorted[next];
    while (other !== undefined && other.to <= at) other = sorted[(next += 1)];
    const otherFrom = other === undefined ? Infinity : Math.max(other.from, at);
    const from = Math.min(set < 0 ? Infinity : set, otherFrom);
    if (from === Infinity) return;
    let to = from;
    for (let grown = true; grown;) {
      grown = false;
      const clear = bits.nextClear(to, bits.length);
      if (clear > to) {
        to = clear;
        grown = true;
      }
      for (let run = sorted[next]; run !== undefined && run.from <= to; run = sorted[(next += 1)]) {
        if (run.to > to) {
          to = run.to;
          grown = true;
        }
      }
    }
    yield { from, to };
    at = to;
  }
}
