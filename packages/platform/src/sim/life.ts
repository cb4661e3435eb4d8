/**
 * The life of a simulated process: whether what happens outside reaches its code now, later or never.
 *
 * Always holds: nothing reaches the code of a process that is dead; what happened while it was stopped reaches
 * it once it goes on, expired timers first and then the rest in the order in which it happened (as Node does),
 * each in a turn of its own. What reaches it, a timer, a completion, a chunk, is one step.
 */
import type { Clock } from '../clock.js';
import { asError } from '../errors.js';

export type LifeState = 'running' | 'paused' | 'dead';

export class Life {
  readonly #clock: Clock;
  #state: LifeState = 'running';
  #heldTimers: (() => void)[] = [];
  #heldEvents: (() => void)[] = [];
  #catchUpDue = false;
  #steps = 0;
  #dieAtStep = Infinity;
  #die: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get state(): LifeState {
    return this.#state;
  }

  /** Events that have reached the process so far. */
  get steps(): number {
    return this.#steps;
  }

  /** The `step`-th event (1 = the first) reaches nobody any more: `die` is called instead, and must end this life. */
  dieAt(step: number, die: () => void): void {
    this.#dieAtStep = step;
    this.#die = die;
  }

  end(): void {
    this.#state = 'dead';
    this.#heldTimers = [];
    this.#heldEvents = [];
  }

  pause(): void {
    if (this.#state === 'running') this.#state = 'paused';
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'running';
    this.#catchUp();
  }

  /** A timer has expired. */
  timer(run: () => void): void {
    if (this.#reachesNow()) this.#step(run);
    else if (this.#state !== 'dead') this.#heldTimers.push(run);
  }

  /** Something else has happened. */
  event(run: () => void): void {
    if (this.#reachesNow()) this.#step(run);
    else if (this.#state !== 'dead') this.#heldEvents.push(run);
  }

  /** As the promise, for code of this process; never settles once it is dead. */
  promised<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => this.event(() => resolve(value)),
        (thrown: unknown) => this.event(() => reject(asError(thrown))),
      );
    });
  }

  #reachesNow(): boolean {
    return this.#state === 'running' && this.#heldTimers.length === 0 && this.#heldEvents.length === 0;
  }

  #step(run: () => void): void {
    this.#steps += 1;
    if (this.#steps >= this.#dieAtStep) this.#die?.();
    if (this.#state !== 'dead') run();
  }

  #catchUp(): void {
    if (this.#catchUpDue || this.#heldTimers.length + this.#heldEvents.length === 0) return;
    this.#catchUpDue = true;
    this.#clock.after(0, () => {
      this.#catchUpDue = false;
      if (this.#state !== 'running') return;
      const next = this.#heldTimers.shift() ?? this.#heldEvents.shift();
      if (next !== undefined) this.#step(next);
      this.#catchUp();
    });
  }
}
