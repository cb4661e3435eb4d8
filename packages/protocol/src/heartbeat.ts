/**
 * Heartbeats of one conversation: sends at every interval, and says when the peer has been silent for too
 * long (promise BEAT). Knows only a clock and two things to call.
 *
 * Always holds:
 *  - `dead` is called at most once, and nothing is called after `stop` or `dead`;
 *  - time in which this process did not run, or did not read, does not count as the peer's silence.
 */
import type { Clock, Timer } from '@rephub/platform';

export interface HeartbeatOptions {
  readonly clock: Clock;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** How long the first sign of life may take. */
  readonly firstMs: number;
  /** Time for a beat. Called only after `startSending`. */
  send(): void;
  /** Nothing was heard for `silentMs`. */
  dead(silentMs: number): void;
}

/** What is due within this time is due now: a timer that came a rounding error early must not be set again for it. */
const SLACK_MS = 0.5;

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #clock: Clock;
  #intervalMs: number;
  #timeoutMs: number;
  /** Null until the peer has been heard for the first time. */
  #heardAt: number | null = null;
  /** When the silence that counts began. */
  #silentFrom: number;
  #nextBeatAt = Number.POSITIVE_INFINITY;
  #deaf = false;
  #timer: Timer | null = null;
  #expectedAt = 0;
  #stopped = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#intervalMs = options.intervalMs;
    this.#timeoutMs = options.timeoutMs;
    this.#silentFrom = this.#clock.monotonicMs();
    this.#schedule();
  }

  /** The peer lives. Cheap: called for every frame. */
  heard(): void {
    const now = this.#clock.monotonicMs();
    const first = this.#heardAt === null;
    this.#heardAt = now;
    this.#silentFrom = now;
    if (first) this.#schedule();
  }

  /** From now on beats are sent, the first one an interval from now. Harmless when called again. */
  startSending(): void {
    if (this.#nextBeatAt !== Number.POSITIVE_INFINITY) return;
    this.#nextBeatAt = this.#clock.monotonicMs() + this.#intervalMs;
    this.#schedule();
  }

  /** Other times from now on: what the two sides have agreed upon. Silence counts from anew: the peer learns of them now. */
  setTimes(intervalMs: number, timeoutMs: number): void {
    this.#silentFrom = this.#clock.monotonicMs();
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
    if (this.#nextBeatAt !== Number.POSITIVE_INFINITY) this.#nextBeatAt = this.#clock.monotonicMs() + intervalMs;
    this.#schedule();
  }

  /** While we do not read, we cannot hear: silence does not count. Hearing again, it counts from anew. */
  setDeaf(deaf: boolean): void {
    if (this.#deaf === deaf) return;
    this.#deaf = deaf;
    if (!deaf) this.#silentFrom = this.#clock.monotonicMs();
    this.#schedule();
  }

  /** Nothing is called any more. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #limitMs(): number {
    return this.#heardAt === null ? this.#options.firstMs : this.#timeoutMs;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer?.cancel();
    this.#timer = null;
    const deadAt = this.#deaf ? Number.POSITIVE_INFINITY : this.#silentFrom + this.#limitMs();
    const at = Math.min(deadAt, this.#nextBeatAt);
    if (at === Number.POSITIVE_INFINITY) return;
    this.#expectedAt = at;
    this.#timer = this.#clock.after(Math.max(0, at - this.#clock.monotonicMs()), () => this.#tick());
  }

  #tick(): void {
    this.#timer = null;
    if (this.#stopped) return;
    const now = this.#clock.monotonicMs();
    // A timer that comes late by more than an interval: this process was stopped or busy, and what the peer
    // sent meanwhile lies unread behind this timer.
    const lateMs = now - this.#expectedAt;
    if (lateMs > this.#intervalMs) this.#silentFrom = Math.min(now, this.#silentFrom + lateMs);
    const silentMs = now - this.#silentFrom;
    if (!this.#deaf && silentMs >= this.#limitMs() - SLACK_MS) {
      if (lateMs <= this.#intervalMs) {
        this.stop();
        this.#options.dead(silentMs);
        return;
      }
      // Late, and the limit reached just now: one more interval to read what has come.
      this.#silentFrom = now - this.#limitMs() + this.#intervalMs;
    }
    if (now >= this.#nextBeatAt - SLACK_MS) {
      // From now, not from when it was due: after a stop the missed beats are not sent in a burst.
      this.#nextBeatAt = now + this.#intervalMs;
      this.#options.send();
    }
    this.#schedule();
  }
}
