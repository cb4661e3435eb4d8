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

/**
 * Runs of zeroes and of data, in turn, that cover all slices; they begin and end at whole steps, wherever the slices do, for
 * what is not whole cannot be punched. `known` tells slices that are zero without looking.
 */
export function cutAtZeroes(slices: readonly Buffer[], known: (slice: Buffer) => boolean): ZeroRun[] {
  const runs: ZeroRun[] = [];
  let at = 0;
  let stepFrom = 0;
  let stepIsZero = true;
  const endStep = (): void => {
    const last = runs.at(-1);
    if (last?.zero === stepIsZero) last.to = at;
    else runs.push({ from: stepFrom, to: at, zero: stepIsZero });
    stepFrom = at;
    stepIsZero = true;
  };
  for (const slice of slices) {
    const isKnown = known(slice);
    for (let from = 0; from < slice.length;) {
      const part = Math.min(STEP_BYTES - (at - stepFrom), slice.length - from);
      stepIsZero &&= isKnown || isZero(slice, from, from + part);
      from += part;
      at += part;
      if (at - stepFrom === STEP_BYTES) endStep();
    }
  }
  if (at > stepFrom) endStep();
  return runs;
}

/** Most data shows it in its first bytes, at a hundredth of what asking the library costs. */
function isZero(slice: Buffer, from: number, to: number): boolean {
  return slice[from] === 0 && slice[to - 1] === 0 && slice.compare(ZEROES, 0, to - from, from, to) === 0;
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
