/**
 * Keeps what is read for copies, comparisons and verifications below a rate, whoever reads it: all who share a pace share
 * the rate. A piece is let through at once when nothing is owed; the next one waits until it has been paid for. When the
 * rate changes, what is owed is paid at the new one, also by those who wait already.
 */
import { type Clock, sleep } from '@rephub/platform';
import { RateCap, type RateLimit } from './rate-cap.js';

/** Bytes that are as good as paid: sums of fractions do not come out even. */
const EVEN = 1e-3;

export class Pace {
  readonly #clock: Clock;
  readonly cap: RateCap;
  /** Bytes let through or waiting, in all; and how many of them have been paid for. */
  #taken = 0;
  #paid = 0;
  #paidAtMs = 0;

  /** Null: no limit. */
  constructor(clock: Clock, limit: RateLimit | RateCap) {
    this.#clock = clock;
    this.cap = limit instanceof RateCap ? limit : new RateCap(clock, limit);
  }

  /** Resolves when so many bytes may be read. Those who wait are served in the order of their calls. */
  async take(bytes: number): Promise<void> {
    if (bytes === 0) return;
    this.#pay();
    const begin = this.#taken;
    this.#taken += bytes;
    for (;;) {
      const rate = this.#pay();
      const owed = begin - this.#paid;
      if (rate === null || owed <= EVEN) return;
      await sleep(this.#clock, Math.min((owed * 1000) / rate, this.cap.holdsMs));
    }
  }

  /** Counts what has been paid since the last look, at the rate that is in force; nothing is paid in advance. */
  #pay(): number | null {
    const now = this.#clock.monotonicMs();
    const rate = this.cap.bytesPerSecond;
    this.#paid =
      rate === null ? this.#taken : Math.min(this.#taken, this.#paid + ((now - this.#paidAtMs) * rate) / 1000);
    this.#paidAtMs = now;
    return rate;
  }
}
