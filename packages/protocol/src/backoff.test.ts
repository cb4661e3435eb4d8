import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, test } from 'vitest';
import { Backoff } from './backoff.js';

const fixed = (fraction: number): Backoff => new Backoff({ fraction: () => fraction, bytes: () => Buffer.alloc(0) });

describe('backoff', () => {
  test('the longest waits double from 0.2 s to 5 s and stay there', () => {
    const backoff = fixed(1);
    expect(Array.from({ length: 8 }, () => backoff.nextDelayMs())).toEqual([
      200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000,
    ]);
    expect(backoff.failures).toBe(8);
  });

  test('the shortest wait is always 0.1 s', () => {
    const backoff = fixed(0);
    for (let attempt = 0; attempt < 10_000; attempt += 1) expect(backoff.nextDelayMs()).toBe(100);
  });

  test('a session that lasted longer than 10 s begins anew, a shorter one does not', () => {
    const backoff = fixed(1);
    for (let attempt = 0; attempt < 6; attempt += 1) backoff.nextDelayMs();
    backoff.sessionEnded(10_000);
    expect(backoff.nextDelayMs()).toBe(5_000);
    backoff.sessionEnded(10_001);
    expect(backoff.nextDelayMs()).toBe(200);
  });

  test('a thousand agents that lost one hub together do not come back together', () => {
    const random = new SeededRandomness(7);
    const arrivals: number[] = [];
    for (let agent = 0; agent < 1_000; agent += 1) {
      const backoff = new Backoff(random);
      let atMs = 0;
      // The hub is away for 20 s.
      while (atMs < 20_000) atMs += backoff.nextDelayMs();
      arrivals.push(atMs);
    }
    const perTenth = new Map<number, number>();
    for (const atMs of arrivals) perTenth.set(Math.floor(atMs / 100), (perTenth.get(Math.floor(atMs / 100)) ?? 0) + 1);
    expect(Math.max(...perTenth.values())).toBeLessThan(100);
    expect(Math.max(...arrivals)).toBeLessThan(25_000);
  });
});
