/** Finds the zero parts of what was read, so that they cross the link without payload. Pure. */
import { ZEROES } from '@rephub/nbd';

/** Zeroes are looked for in steps of this size; shorter runs are not worth a record of their own. */
const STEP_BYTES = 4096;

export interface ZeroRun {
  /** Byte positions within the slices taken together. */
  from: number;
  to: number;
  zero: boolean;
}

/** Runs of zeroes and of data, in turn, that cover all slices. `known` tells slices that are zero without looking. */
export function cutAtZeroes(slices: readonly Buffer[], known: (slice: Buffer) => boolean): ZeroRun[] {
  const runs: ZeroRun[] = [];
  let at = 0;
  const add = (length: number, zero: boolean): void => {
    const last = runs.at(-1);
    if (last?.zero === zero) last.to += length;
    else runs.push({ from: at, to: at + length, zero });
    at += length;
  };
  for (const slice of slices) {
    if (known(slice)) {
      add(slice.length, true);
      continue;
    }
    for (let from = 0; from < slice.length; from += STEP_BYTES) {
      const step = Math.min(STEP_BYTES, slice.length - from);
      add(step, slice.compare(ZEROES, 0, step, from, from + step) === 0);
    }
  }
  return runs;
}

/** The part of the slices from byte `from` to byte `to`, without copying. */
export function sliceRange(slices: readonly Buffer[], from: number, to: number): Buffer[] {
  const part: Buffer[] = [];
  let at = 0;
  for (const slice of slices) {
    const begin = Math.max(from - at, 0);
    const end = Math.min(to - at, slice.length);
    if (begin < end) part.push(begin === 0 && end === slice.length ? slice : slice.subarray(begin, end));
    at += slice.length;
  }
  return part;
}
