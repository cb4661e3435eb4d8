/**
 * The cap that is in force now: a number, none, or by the time of day as this host's wall clock shows it. Looked up at most
 * once a second, so that a clock that jumps, or an hour that comes twice, counts within a second.
 */
import { type Clock } from '@rephub/platform';
import { type LocalTime, type Rate, rateAt, type RateSchedule } from './rate-schedule.js';

/** Bytes a second; null: no cap; or by the time of day. */
export type RateLimit = Rate | RateSchedule;

const LOOK_EVERY_MS = 1_000;

export class RateCap {
  readonly #clock: Clock;
  readonly #limit: RateLimit;
  readonly #localTime: (unixMs: number) => LocalTime;
  #current: Rate = null;
  #lookedAtMs = -Infinity;

  constructor(clock: Clock, limit: RateLimit, localTime: (unixMs: number) => LocalTime = localTimeOf) {
    this.#clock = clock;
    this.#limit = limit;
    this.#localTime = localTime;
  }

  /** In force now. */
  get bytesPerSecond(): Rate {
    if (this.#limit === null || typeof this.#limit === 'number') return this.#limit;
    const now = this.#clock.monotonicMs();
    if (now - this.#lookedAtMs >= LOOK_EVERY_MS) {
      this.#lookedAtMs = now;
      this.#current = rateAt(this.#limit, this.#localTime(this.#clock.unixMs()));
    }
    return this.#current;
  }

  /** How long what `bytesPerSecond` says may hold at most before it is looked up again. */
  get holdsMs(): number {
    return this.schedule === null ? Infinity : LOOK_EVERY_MS;
  }

  /** As the operator wrote it; null when it does not depend on the time. */
  get schedule(): string | null {
    return this.#limit === null || typeof this.#limit === 'number' ? null : this.#limit.text;
  }
}

/** In the time zone of this process: TZ, else the host's. */
function localTimeOf(unixMs: number): LocalTime {
  const local = new Date(unixMs);
  return { weekday: local.getDay(), minute: local.getHours() * 60 + local.getMinutes() };
}
