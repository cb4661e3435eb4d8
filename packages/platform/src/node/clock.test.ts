import { describe, expect, it, vi } from 'vitest';
import { sleep } from '../clock.js';
import { nodeClock } from './clock.js';
import { nodeRandomness } from './randomness.js';

describe('nodeClock', () => {
  it('goes forward, and runs what was not cancelled', async () => {
    const clock = nodeClock();
    const before = clock.monotonicMs();
    let ran = 0;
    const timer = clock.after(0, () => (ran += 1));
    timer.cancel();
    timer.cancel();
    await sleep(clock, 5);
    expect(ran).toBe(0);
    // Node's timers count in whole milliseconds and may come up to one early.
    expect(clock.monotonicMs() - before).toBeGreaterThan(3);
    expect(Math.abs(clock.unixMs() - Date.now())).toBeLessThan(1000);
  });

  it('does not take a delay of months for none', async () => {
    const clock = nodeClock();
    let ran = false;
    const timer = clock.after(1e12, () => {
      ran = true;
    });
    await sleep(clock, 5);
    timer.cancel();
    expect(ran).toBe(false);
  });
});

describe('a delay of months', () => {
  it('is as long as that, and can be cancelled all the while', () => {
    vi.useFakeTimers();
    try {
      const dayMs = 86_400_000;
      let ran = 0;
      const clock = nodeClock();
      clock.after(90 * dayMs, () => (ran += 1));
      const cancelled = clock.after(90 * dayMs, () => (ran += 100));
      vi.advanceTimersByTime(60 * dayMs);
      cancelled.cancel();
      vi.advanceTimersByTime(30 * dayMs - 1);
      expect(ran).toBe(0);
      vi.advanceTimersByTime(1);
      expect(ran).toBe(1);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('nodeRandomness', () => {
  it('gives fractions and different bytes', () => {
    const randomness = nodeRandomness();
    const fraction = randomness.fraction();
    expect(fraction >= 0 && fraction < 1).toBe(true);
    expect(randomness.bytes(16).equals(randomness.bytes(16))).toBe(false);
  });
});
