import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { LatencyHistogram } from './latency-histogram.js';

function of(...tookMs: number[]): LatencyHistogram {
  const histogram = new LatencyHistogram();
  for (const ms of tookMs) histogram.note(ms);
  return histogram;
}

describe('LatencyHistogram', () => {
  it('tells quantiles that are at most an eighth above those of the numbers themselves, at any scale', () => {
    const random = new SeededRandomness(3);
    const tookMs = Array.from({ length: 5_000 }, () => 10 ** (random.fraction() * 7 - 2.5));
    const histogram = of(...tookMs);
    tookMs.sort((one, other) => one - other);
    for (const share of [0.01, 0.5, 0.9, 0.99, 1]) {
      const exactMs = tookMs[Math.ceil(share * tookMs.length) - 1]!;
      expect(histogram.quantile(share)).toBeGreaterThanOrEqual(exactMs);
      expect(histogram.quantile(share)).toBeLessThanOrEqual(exactMs * 1.125 + 0.001);
    }
  });

  it('counts what took longer, and not what took as long', () => {
    const histogram = of(1, 1, 2, 5, 80);
    expect([histogram.above(0.5), histogram.above(1), histogram.above(4), histogram.above(100)]).toEqual([5, 3, 2, 0]);
  });

  it('tells a mean in which outliers count for no more than is asked', () => {
    const histogram = of(...Array.from({ length: 99 }, () => 1), 5_000);
    expect(histogram.mean(Infinity)).toBeGreaterThan(40);
    expect(histogram.mean(2)).toBeCloseTo(1, 1);
    expect(new LatencyHistogram().mean(2)).toBe(0);
  });

  it('lets what is old count less, in the same proportions', () => {
    const histogram = of(...Array.from({ length: 90 }, () => 1), ...Array.from({ length: 10 }, () => 50));
    histogram.fade(20);
    expect(histogram.total).toBe(20);
    expect(histogram.above(10)).toBeCloseTo(2);
    histogram.fade(30);
    expect(histogram.total).toBe(20);
    histogram.clear();
    expect([histogram.total, histogram.quantile(0.99), histogram.above(0)]).toEqual([0, 0, 0]);
  });

  it('takes what cannot be: nothing, less than nothing, years', () => {
    const histogram = of(0, -5, 1e12);
    expect([histogram.total, histogram.quantile(0.5)]).toEqual([3, 0.001]);
    expect(histogram.above(1e6)).toBe(1);
    expect(histogram.quantile(1)).toBeGreaterThan(2e6);
  });
});
