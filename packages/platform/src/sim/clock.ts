/**
 * Virtual time. Nothing happens by itself: a test moves the time on and the timers that fall due run, in
 * order of their time and then of their making.
 *
 * Always holds: between two timers every promise that can settle has settled, so a run depends on nothing
 * but what the test did.
 */
import type { Clock, Timer } from '../clock.js';
import { asError } from '../errors.js';
import { nextTurn, runTurns } from '../node/turn.js';
import { TimerHeap } from './timer-heap.js';

export interface SimClockOptions {
  /** The wall clock at the start; 2026-01-01 UTC when left out. */
  readonly unixMs?: number;
}

/** How far somebody wants the time to go: until `reached`; null: as far as the limit. */
interface Goal {
  readonly fromMs: number;
  readonly limitMs: number;
  readonly reached: (() => boolean) | null;
}

interface Driver extends Goal {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class SimClock implements Clock {
  #nowMs = 0;
  #unixOffsetMs: number;
  readonly #timers = new TimerHeap();
  /** Who waits for the time to go on: several at once where a load runs beside what a test waits for. */
  #drivers: Driver[] = [];

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
    await this.#drive({ fromMs: this.#nowMs, limitMs: byMs, reached: null });
  }

  /**
   * Moves the time on from timer to timer until `reached` says true. Throws when it has not after
   * `limitMs` of virtual time, or when no timer is left that could change anything.
   */
  async runUntil(reached: () => boolean, limitMs = 3_600_000): Promise<void> {
    await this.#drive({ fromMs: this.#nowMs, limitMs, reached });
  }

  async #drive(goal: Goal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#drivers.push({ ...goal, resolve, reject });
      if (this.#drivers.length > 1) return;
      runTurns(() => this.#turn()).catch((thrown: unknown) => {
        // A timer threw: whoever waits for the time to go on hears of it.
        for (const driver of this.#drivers.splice(0)) driver.reject(asError(thrown));
      });
    });
  }

  /** One timer, or the end of those who wait for the time; false when nobody waits any more. */
  #turn(): boolean {
    const dueMs = this.#timers.nextDueMs;
    let done: Driver[] | null = null;
    for (const driver of this.#drivers) if (this.#isDone(driver, dueMs)) (done ??= []).push(driver);
    if (done !== null) {
      const gone = done;
      this.#drivers = this.#drivers.filter((driver) => !gone.includes(driver));
      // They settle before the next timer runs.
      return this.#drivers.length > 0;
    }
    this.#nowMs = Math.max(this.#nowMs, dueMs);
    this.#timers.takeFirst()();
    return true;
  }

  #isDone({ fromMs, limitMs, reached, resolve, reject }: Driver, dueMs: number): boolean {
    const untilMs = fromMs + limitMs;
    if (reached?.() === true) {
      resolve();
      return true;
    }
    if (dueMs <= untilMs) return false;
    if (reached === null) {
      this.#nowMs = Math.max(this.#nowMs, untilMs);
      resolve();
    } else {
      const why = dueMs === Infinity ? 'no timer is left' : `${limitMs} ms have passed`;
      reject(new Error(`not reached by virtual time ${this.#nowMs} ms: ${why}`));
    }
    return true;
  }
}
