import { type Tracker } from '@rephub/bitmap';
import { BlockRequest, CommandFlag } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { dirtyRuns } from './dirty-runs.js';

const BLOCK = 64 * 1024;

/** Every other block of `count` pairs is dirty, from the second block on. */
function everyOther(count: number): { readonly tracker: Tracker; readonly asked: () => number } {
  let calls = 0;
  const nextDirty = (_volume: number, from: number): { offset: number; length: number } | null => {
    calls += 1;
    const pair = Math.max(0, Math.ceil((from - 2 * BLOCK + 1) / (2 * BLOCK)));
    return pair >= count ? null : { offset: (2 * pair + 1) * BLOCK, length: BLOCK };
  };
  return { tracker: { nextDirty } as unknown as Tracker, asked: () => calls };
}

function asking(offset: number, length: number, flags: number): BlockRequest {
  const request = new BlockRequest({ completed: () => undefined });
  Object.assign(request, { offset, length, flags });
  return request;
}

describe('dirtyRuns', () => {
  it('tells clean and dirty runs in turn, cut to the range', () => {
    const { tracker } = everyOther(3);
    expect(dirtyRuns(tracker, 0, asking(BLOCK / 2, 5 * BLOCK, 0))).toEqual([
      ...[BLOCK / 2, 0, BLOCK, 1, BLOCK, 0, BLOCK, 1, BLOCK, 0],
      ...[BLOCK / 2, 1],
    ]);
    expect(dirtyRuns(tracker, 0, asking(6 * BLOCK, BLOCK, 0))).toEqual([BLOCK, 0]);
  });

  it('looks no further than was asked for: one run, or as many as an answer holds', () => {
    const { tracker, asked } = everyOther(1_000_000);
    const all = 2_000_000 * BLOCK;
    expect(dirtyRuns(tracker, 0, asking(0, all, CommandFlag.RequestOne)).slice(0, 2)).toEqual([BLOCK, 0]);
    expect(dirtyRuns(tracker, 0, asking(BLOCK, all, CommandFlag.RequestOne)).slice(0, 2)).toEqual([BLOCK, 1]);
    expect(asked()).toBe(2);
    const runs = dirtyRuns(tracker, 0, asking(0, all, 0));
    expect(runs.length / 2).toBeGreaterThanOrEqual(1024);
    expect(runs.length / 2).toBeLessThanOrEqual(1025);
  });
});
