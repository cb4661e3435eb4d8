/**
 * Virtual time. Nothing happens by itself: a test moves the time on and the timers that fall due run, in
 * order of their time and then of their making.
 *
 * Always holds: between two timers every promise that can settle has settled, so a run depends on nothing
 * but what the test did.
 */
import type { Clock, Timer } from '../clock.js';
import { nextTurn, runTurns } from '../node/turn.js';
import { TimerHeap } from './timer-heap.js';

export interface SimClockOptions {
  /** The wall clock at the start; 2026-01-01 UTC when left out. */
  readonly unixMs?: number;
}

export class SimClock implements Clock {
  #nowMs = 0;
  #unixOffsetMs: number;
  readonly #timers = new TimerHeap();

  constructor(options: SimClockOptions = {}) {
    this.#unixOffsetMs = options.unixMs ?? Date.UTC(2026, 0, 1);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  unixMs(): number {
    return this.#unixOffsetMs + this.#nowMs;
  }

  after(delayMs: number, run: () => void): Timer {
    return this.#timers.add(this.#nowMs + Math.max(0, delayMs), run);
  }

  /** Timers that wait. */
  get pendingTimers(): number {
    return this.#timers.count;
  }

  /** Lets the wall clock jump, either way; monotonic time and timers stay. */
  jumpUnix(byMs: number): void {
    this.#unixOffsetMs += byMs;
  }

  /** Lets promises settle, without any time passing. */
  async settle(): Promise<void> {
    await nextTurn();
  }

  /** Moves the time on by `byMs` and runs what falls due on the way, what those timers set included. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs;
    await runTurns(() => this.#runNext(untilMs));
    // Another one who moves the time may have come further.
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /**
   * Moves the time on from timer to timer until `reached` says true. Throws when it has not after
   * `limitMs` of virtual time, or when no timer is left that could change anything.
   */
  async runUntil(reached: () => boolean, limitMs = 3_600_000): Promise<void> {
    const untilMs = this.#nowMs + limitMs;
    await runTurns(() => {
      if (reached()) return false;
      if (this.#runNext(untilMs)) return true;
      const why = this.#timers.count === 0 ? 'no timer is left' : `${limitMs} ms have passed`;
      throw new Error(`not reached by virtual time ${this.#nowMs} ms: ${why}`);
    });
  }

  #runNext(untilMs: number): boolean {
    if (this.#timers.nextDueMs > untilMs) return false;
    this.#nowMs = Math.max(this.#nowMs, this.#timers.nextDueMs);
    this.#timers.takeFirst()();
    return true;
  }
}
