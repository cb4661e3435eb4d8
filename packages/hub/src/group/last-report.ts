/**
 * What the agent has told of itself last, when that was true, and what follows from it for the age of what the group lacks.
 *
 * Always holds (RPO): times are of this hub's monotonic clock and no wall clock counts, so a clock that somebody sets back
 * makes nothing younger; `exposedMs` is never below the age of the agent's oldest write that is not in the newest point.
 * Must not know: what is shown to whom.
 */
import { type Clock } from '@rephub/platform';
import { type AgentReport, type Beat } from '@rephub/protocol';
import { toldAtMs } from './group-status.js';

export class LastReport {
  report: AgentReport | null = null;
  readonly #clock: Clock;
  readonly #heartbeatMs: number;
  #metAtMs = 0;
  #toldAtMs: number;
  #begunAtMs = -Infinity;
  /** No write that the newest point lacks was made before this; null while nobody knows. */
  #exposedSinceMs: number | null = null;

  constructor(clock: Clock, heartbeatMs: number) {
    this.#clock = clock;
    this.#heartbeatMs = heartbeatMs;
    this.#toldAtMs = clock.monotonicMs();
  }

  /** Since the last report; without one since the hub's start. */
  get silentMs(): number {
    return this.#clock.monotonicMs() - this.#toldAtMs;
  }

  /** Since the last report, or the beginning of a session if that was later. */
  get unheardMs(): number {
    return this.#clock.monotonicMs() - Math.max(this.#toldAtMs, this.#begunAtMs);
  }

  /** No write that the newest point lacks was made before this, on the monotonic clock; null while nobody knows. */
  get exposedSinceMs(): number | null {
    return this.#exposedSinceMs;
  }

  /** The oldest write that the newest point lacks is at most so old; null while nobody knows. */
  get exposedMs(): number | null {
    return this.#exposedSinceMs === null ? null : this.#clock.monotonicMs() - this.#exposedSinceMs;
  }

  /** A session is about to be welcomed. */
  met(): void {
    this.#metAtMs = this.#clock.monotonicMs();
  }

  /** It has answered Welcome: it is there, and tells its figures with its first beat. */
  began(): void {
    this.#begunAtMs = this.#clock.monotonicMs();
  }

  /** A beat of the session that was met last: it was made after that session's Welcome, and after the beat that it echoes. */
  told({ echoMs }: Pick<Beat, 'echoMs'>, report: AgentReport): void {
    const now = this.#clock.monotonicMs();
    this.report = report;
    this.#toldAtMs = toldAtMs(now, echoMs, this.#metAtMs, this.#heartbeatMs);
    if (report.rpoMs === null) return;
    // What was lacking then may be there now, and what was written since then is younger: each beat is true for ever.
    const madeAfterMs = Math.min(now, Math.max(echoMs ?? this.#metAtMs, this.#metAtMs));
    this.#exposedSinceMs = Math.max(this.#exposedSinceMs ?? -Infinity, madeAfterMs - report.rpoMs);
  }

  /** Another agent has taken the group over: nothing is known of what it wrote. */
  forget(): void {
    this.report = null;
    this.#exposedSinceMs = null;
  }
}
