/**
 * When a group that could not be opened is tried again: without end, less and less often, where it is something that may
 * pass or be put right while the hub runs.
 *
 * Always holds: it is not tried again after a failed sync, nor after anything else that the disk itself has failed: what was lost
 * then would be read from the cache, and taken for durable (docs/design.md, "What a start finds"). Nor for damage, which
 * a second look does not mend.
 * Must not know: how a group is opened.
 */
import { type Clock, type Timer } from '@rephub/platform';
import { mayPass } from '../storage/index.js';

const FIRST_MS = 5_000;
const MOST_MS = 10 * 60_000;

export class Reopening {
  readonly #clock: Clock;
  #timer: Timer | null = null;
  #delayMs = FIRST_MS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** It could not be opened for this reason. Returns when `again` will be called, in milliseconds; null: never. */
  failed(reason: unknown, again: () => void): number | null {
    this.cancel();
    if (!mayPass(reason)) return null;
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(2 * delayMs, MOST_MS);
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = null;
      again();
    });
    return delayMs;
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
