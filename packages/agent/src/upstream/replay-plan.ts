/**
 * What of each kept write is played again: all but what a later write, acknowledged too, has put in its place. An older
 * content is never shown again, not even for as long as the replay takes: whoever ends meanwhile leaves no disk that went back.
 *
 * Must not know: connections, errors.
 */
import { Command } from '@rephub/nbd';
import { EntryState, type ReplayLog } from './replay-log.js';

export interface Piece {
  readonly offset: number;
  readonly length: number;
}

/** By entry: its pieces, for entries that are not to be played whole. */
export function planReplay(log: ReplayLog): ReadonlyMap<number, readonly Piece[]> {
  const plan = new Map<number, readonly Piece[]>();
  const newer = new Ranges();
  for (let entry = log.nextEntry - 1; entry >= log.firstEntry; entry--) {
    const state = log.stateOf(entry);
    const [offset, length] = [log.offsetOf(entry), log.lengthOf(entry)];
    // What upstream holds there is at least as new: this one, it may be, from before it was refused.
    if (state === EntryState.Refused) newer.add(offset, offset + length);
    if (state !== EntryState.Kept) continue;
    const pieces = newer.missing(offset, offset + length);
    if (pieces.length !== 1 || pieces[0]?.length !== length) plan.set(entry, pieces);
    // What a trim leaves is unknown: it puts nothing in the place of what was there.
    if (log.commandOf(entry) !== Command.Trim) newer.add(offset, offset + length);
  }
  return plan;
}

/** The part of these slices from byte `from` on. */
export function partOf(slices: readonly Buffer[], from: number, length: number): Buffer[] {
  const part: Buffer[] = [];
  let at = 0;
  for (const slice of slices) {
    const start = Math.max(0, from - at);
    const end = Math.min(slice.length, from + length - at);
    if (start < end) part.push(slice.subarray(start, end));
    at += slice.length;
  }
  return part;
}

/** Ranges that neither overlap nor touch, in order. */
class Ranges {
  #starts: number[] = [];
  #ends: number[] = [];

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

  add(start: number, end: number): void {
    const first = this.#firstEndingAfter(start - 1);
    let last = first;
    while (last < this.#starts.length && (this.#starts[last] ?? 0) <= end) last++;
    const from = first < last ? Math.min(start, this.#starts[first] ?? start) : start;
    const to = first < last ? Math.max(end, this.#ends[last - 1] ?? end) : end;
    this.#starts.splice(first, last - first, from);
    this.#ends.splice(first, last - first, to);
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
