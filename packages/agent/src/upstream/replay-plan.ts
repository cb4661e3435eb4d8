/**
 * What of each kept write is played again: all but what a later write, acknowledged too, has put in its place. An older
 * content is never shown again, not even for as long as the replay takes: whoever ends meanwhile leaves no disk that went back.
 * And what need not be played once more, when a flush has covered it.
 *
 * Must not know: connections, errors.
 */
import { Command } from '@rephub/nbd';
import { type Piece, Ranges } from '../ranges.js';
import { EntryState, type ReplayLog } from './replay-log.js';

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

/**
 * Which entries below `end` need not be played again once a flush has covered what was played: those that were, unless one
 * that is older and still to be played lies beneath. Without them it would be played whole, over what is newer.
 */
export function stableEntries(log: ReplayLog, end: number, wasPlayed: (entry: number) => boolean): number[] {
  const stable: number[] = [];
  const left = new Ranges();
  for (let entry = log.firstEntry; entry < end; entry++) {
    const state = log.stateOf(entry);
    if (state !== EntryState.Kept && state !== EntryState.Open) continue;
    const from = log.offsetOf(entry);
    const to = from + log.lengthOf(entry);
    if (state === EntryState.Kept && wasPlayed(entry) && left.within(from, to).length === 0) stable.push(entry);
    else left.add(from, to);
  }
  return stable;
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
