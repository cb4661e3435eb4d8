/**
 * How long to wait before the next attempt to reach the hub: exponential, with jitter over the whole range,
 * so that agents which lost their hub together do not come back together (promise BEAT).
 *
 * Pure: it neither waits nor reads a clock.
 */
import type { Randomness } from '@rephub/platform';

export interface BackoffOptions {
  /** No wait is shorter. */
  readonly minMs: number;
  /** No wait is longer. */
  readonly maxMs: number;
  /** A session that lasted longer than this counts as a success: the next wait is a short one again. */
  readonly resetAfterMs: number;
}

const DEFAULT_BACKOFF: BackoffOptions = { minMs: 100, maxMs: 5_000, resetAfterMs: 10_000 };

export class Backoff {
  readonly #randomness: Randomness;
  readonly #options: BackoffOptions;
  #failures = 0;

  constructor(randomness: Randomness, options: BackoffOptions = DEFAULT_BACKOFF) {
    this.#randomness = randomness;
    this.#options = options;
  }

  /** Attempts since the last session that lasted. */
  get failures(): number {
    return this.#failures;
  }

  /** The wait before the next attempt, evenly from `minMs` up to a ceiling that doubles with each call: 0.2 s, 0.4 s, … `maxMs`. */
  nextDelayMs(): number {
    const { minMs, maxMs } = this.#options;
    this.#failures += 1;
    const ceilingMs = Math.min(maxMs, minMs * 2 ** Math.min(this.#failures, 40));
    return minMs + this.#randomness.fraction() * (ceilingMs - minMs);
  }

  /** A session, or an attempt, has ended `lastedMs` after it began. */
  sessionEnded(lastedMs: number): void {
    if (lastedMs > this.#options.resetAfterMs) this.#failures = 0;
  }
}
