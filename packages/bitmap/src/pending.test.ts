import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { type PendingRun, PendingRuns } from './pending.js';

const none = (): void => undefined;

describe('pending runs', () => {
  it('are proven by the flushes of their own volume (promise CLEAR)', () => {
    const pending = new PendingRuns();
    pending.add(0, 0, 8, 1, 1);
    pending.add(7, 0, 8, 2, 2);
    const dropped: PendingRun[] = [];
    pending.prove(
      2,
      (volume) => (volume === 7 ? 2 : 0),
      (run) => dropped.push(run),
    );
    expect(dropped).toMatchObject([{ volume: 7, number: 2 }]);
    expect(pending.waitsForFlush(2, (volume) => (volume === 7 ? 2 : 0))).toBe(true);
    expect(pending.waitsForFlush(2, () => 2)).toBe(false);
    expect([pending.count, pending.blocks]).toEqual([1, 8]);
  });

  it('are no more than there are such places, however long their flush does not come (promise BOUND)', () => {
    const random = new SeededRandomness(1);
    const pending = new PendingRuns();
    const blocks = 4096;
    const newest = new Float64Array(blocks);
    let most = 0;
    const taken = pending.add(3, 10, 20);
    for (let number = 1; number <= 200_000; number++) {
      const from = random.below(blocks - 4);
      const to = from + 1 + random.below(4);
      pending.add(3, from, to, number, number);
      newest.fill(number, from, to);
      most = Math.max(most, pending.count);
    }
    expect(most).toBeLessThan(20_000);
    // What has no record yet can still be given back, or get one.
    expect(pending.remove(taken)).toMatchObject({ from: 10, to: 20, number: 0 });
    // Nothing is proven too soon: a block leaves only with the newest write to it.
    const proven = 150_000;
    pending.prove(proven, () => proven, none);
    const lost: number[] = [];
    for (const [block, number] of newest.entries()) {
      if (number > proven && !pending.intersects(3, block, block + 1)) lost.push(block);
    }
    expect(lost).toEqual([]);
    pending.prove(200_000, () => 200_000, none);
    expect([pending.count, pending.blocks]).toEqual([0, 0]);
  });
});
