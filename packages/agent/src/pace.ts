/**
 * Keeps what is read for copies, comparisons and verifications below a rate, whoever reads it: all who share a pace share
 * the rate. A piece is let through at once when nothing is owed; the next one waits until it has been paid for.
 */
import { type Clock, sleep } from '@rephub/platform';

export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number | null;
  #freeAtMs = 0;

  /** Null: no limit. */
  constructor(clock: Clock, bytesPerSecond: number | null) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when so many bytes may be read. Those who wait are served in the order of their calls. */
  async take(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === null || bytes === 0) return;
    const now = this.#clock.monotonicMs();
    const begin = Math.max(now, this.#freeAtMs);
    this.#freeAtMs = begin + (bytes * 1000) / this.#bytesPerSecond;
    if (begin > now) await sleep(this.#clock, begin - now);
  }
}
