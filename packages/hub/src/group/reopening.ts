/**
 * When the storage of a group is opened again by itself: where it could not be opened, for as long as it is something that may
 * pass or be put right while the hub runs; and where records of its journal were found damaged while it was open, which an
 * opening judges. At once; the second and each further time with a longer pause before it is more than readable, until it has
 * been open for an hour.
 *
 * Always holds: it is not opened again after a failed sync, nor after anything else that the disk itself has failed: what was lost
 * then would be read from the cache, and taken for durable (docs/design.md, "What a start finds"). Nor where an opening has
 * found damage that it could not open: a second look does not mend that.
 * Must not know: how a group is opened.
 */
import { type Clock, type Timer } from '@rephub/platform';
import { mayPass } from '../storage/index.js';

const FIRST_MS = 5_000;
const MOST_MS = 10 * 60_000;
/** Open for so long, it has nothing more to do with what was before. */
const STEADY_MS = 60 * 60_000;

export class Reopening {
  readonly #clock: Clock;
  #timer: Timer | null = null;
  /** Before the next time. */
  #pauseMs = 0;
  #openedAtMs: number | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** It is open. */
  opened(): void {
    this.#openedAtMs = this.#clock.monotonicMs();
  }

  /** It could not be opened for this reason. Returns when `again` will be called, in milliseconds; null: never. */
  failed(reason: unknown, again: () => void): number | null {
    this.cancel();
    if (!mayPass(reason)) return null;
    return this.#wait(Math.max(FIRST_MS, this.#pauseMs), again);
  }

  /** It was open, and its journal is damaged. Returns when `again` will be called, in milliseconds; 0: there is no pause. */
  damaged(again: () => void): number {
    this.cancel();
    const openMs = this.#clock.monotonicMs() - (this.#openedAtMs ?? -Infinity);
    if (openMs >= STEADY_MS) this.#pauseMs = 0;
    return this.#wait(this.#pauseMs, again);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #wait(pauseMs: number, again: () => void): number {
    this.#pauseMs = Math.min(Math.max(FIRST_MS, 2 * pauseMs), MOST_MS);
    if (pauseMs > 0) {
      this.#timer = this.#clock.after(pauseMs, () => {
        this.#timer = null;
        again();
      });
    }
    return pauseMs;
  }
}
