/** What a resync would send, as block status tells it. */
import { type Tracker } from '@rephub/bitmap';

/** [length, flags] pairs over the range: bit 0 is set where a resync would send. */
export function dirtyRuns(tracker: Tracker, volume: number, offset: number, length: number): number[] {
  const runs: number[] = [];
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const dirty = tracker.nextDirty(volume, at);
    const cleanTo = Math.min(end, dirty === null ? end : Math.max(at, dirty.offset));
    if (cleanTo > at) runs.push(cleanTo - at, 0);
    at = cleanTo;
    if (dirty === null || at >= end) continue;
    const dirtyTo = Math.min(end, dirty.offset + dirty.length);
    runs.push(dirtyTo - at, 1);
    at = dirtyTo;
  }
  return runs;
}
