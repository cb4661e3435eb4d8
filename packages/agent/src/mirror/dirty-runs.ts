/** What a resync would send, as block status tells it. */
import { type Tracker } from '@rephub/bitmap';
import { type BlockRequest, CommandFlag } from '@rephub/nbd';

/** Runs of one answer; a client asks again for the rest. */
const MOST_RUNS = 1024;

/**
 * [length, flags] pairs over the request's range: bit 0 is set where a resync would send. They end early when there are
 * more than an answer holds, or than were asked for.
 */
export function dirtyRuns(tracker: Tracker, volume: number, request: BlockRequest): number[] {
  const most = (request.flags & CommandFlag.RequestOne) === 0 ? MOST_RUNS : 1;
  const runs: number[] = [];
  const end = request.offset + request.length;
  let at = request.offset;
  while (at < end && runs.length < 2 * most) {
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
