import { NbdError } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import {
  connectTimeoutMs,
  delayBefore,
  isRetried,
  patienceMs,
  probeDelayMs,
  type RetryPolicy,
} from './retry-policy.js';

const DEFAULTS: RetryPolicy = { retries: 5, delayMs: 2000, exponential: true };

describe('the retry policy', () => {
  it('repeats EIO and ESHUTDOWN, and nothing else', () => {
    const repeated = Object.entries(NbdError).filter(([, error]) => isRetried(error));
    expect(repeated.map(([name]) => name)).toEqual(['Eio', 'Eshutdown']);
  });

  it('doubles the delay up to a minute, or keeps it', () => {
    expect([1, 2, 3, 4, 5, 6, 7].map((nth) => delayBefore(DEFAULTS, nth))).toEqual([
      ...[2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000],
    ]);
    expect([1, 2, 9].map((nth) => delayBefore({ ...DEFAULTS, exponential: false }, nth))).toEqual([2000, 2000, 2000]);
    expect(delayBefore({ ...DEFAULTS, delayMs: 600_000 }, 3)).toBe(600_000);
  });

  it('lets a request wait for as long as its repetitions would have taken', () => {
    expect(patienceMs(DEFAULTS, 1)).toBe(62_000);
    expect(patienceMs(DEFAULTS, 3)).toBe(56_000);
    expect(patienceMs(DEFAULTS, 6)).toBe(0);
    expect(patienceMs({ ...DEFAULTS, retries: 0 }, 1)).toBe(0);
    expect(patienceMs({ ...DEFAULTS, retries: Infinity }, 1)).toBe(Infinity);
    expect(patienceMs({ retries: 1_000_000, delayMs: 10, exponential: false }, 1)).toBe(10_000_000);
  });

  it('looks for a lost upstream every 50 ms for the first two delays, then every few seconds', () => {
    expect([0, 5999].map((awayMs) => probeDelayMs(DEFAULTS, awayMs))).toEqual([50, 50]);
    expect([6000, 3_600_000].map((awayMs) => probeDelayMs(DEFAULTS, awayMs))).toEqual([2000, 2000]);
    expect(probeDelayMs({ ...DEFAULTS, delayMs: 100_000 }, 40_000)).toBe(5000);
    expect(probeDelayMs({ ...DEFAULTS, delayMs: 1 }, 2000)).toBe(50);
  });

  it('gives a connection more time when the last one took too long, up to 10 s', () => {
    expect([0, 1, 2, 3, 4, Infinity].map(connectTimeoutMs)).toEqual([1000, 2000, 4000, 8000, 10_000, 10_000]);
  });
});
