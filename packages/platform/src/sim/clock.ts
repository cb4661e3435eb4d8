/**
 * Virtual time. Nothing happens by itself: a test moves the time on and the timers that fall due run, in
 * order of their time and then of their making.
 *
 * Always holds: between two timers every promise that can settle has settled, so a run depends on nothing
 * but what the test did.
 */
import type { Clock, Timer } from '../clock.js';
import { nextTurn } from '../node/turn.js';

interface PendingTimer {
  readonly dueMs: number;
  readonly order: number;
  readonly run: () => void;
}

export interface SimClockOptions {
  /** The wall clock at the start; 2026-01-01 UTC when left out. */
  readonly unixMs?: number;
}

export class SimClock implements Clock {
  #nowMs = 0;
  #unixOffsetMs: number;
  #made = 0;
  /** Sorted by due time, then by making. */
  readonly #timers: PendingTimer[] = [];

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
    this.#made += 1;
    const timer: PendingTimer = { dueMs: this.#nowMs + Math.max(0, delayMs), order: this.#made, run };
    let index = this.#timers.length;
    while (index > 0 && (this.#timers[index - 1]?.dueMs ?? 0) > timer.dueMs) index -= 1;
    this.#timers.splice(index, 0, timer);
    return {
      cancel: () => {
        const at = this.#timers.indexOf(timer);
        if (at >= 0) this.#timers.splice(at, 1);
      },
    };
  }

  /** Timers that wait. */
  get pendingTimers(): number {
    return this.#timers.length;
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
    await nextTurn();
    while (await this.#runNext(untilMs));
    this.#nowMs = untilMs;
  }

  /**
   * Moves the time on from timer to timer until `reached` says true. Throws when it has not after
   * `limitMs` of virtual time, or when no timer is left that could change anything.
   */
  async runUntil(reached: () => boolean, limitMs = 3_600_000): Promise<void> {
    const untilMs = this.#nowMs + limitMs;
    await nextTurn();
    while (!reached()) {
      if (await this.#runNext(untilMs)) continue;
      const why = this.#timers.length === 0 ? 'no timer is left' : `${limitMs} ms have passed`;
      throw new Error(`not reached by virtual time ${this.#nowMs} ms: ${why}`);
    }
  }

  async #runNext(untilMs: number): Promise<boolean> {
    const timer = this.#timers[0];
    if (timer === undefined || timer.dueMs > untilMs) return false;
    this.#timers.shift();
    this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
    timer.run();
    await nextTurn();
    return true;
  }
}
