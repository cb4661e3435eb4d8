/**
 * Does what the disk refuses for now (for want of room, of a file handle), and does it again, less and less often, until
 * it takes it.
 *
 * Always holds: only what the caller says may pass is tried again; any other failure is the caller's.
 */
import { type Clock, type Fault } from '@rephub/platform';
import { isWantOfRoom } from '../passing-faults.js';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;

export interface WaitEvents {
  /** It waits, or waits for something else than before; awaited before the next try. */
  waits(fault: Fault): Promise<void>;
  /** It is over. */
  goesOn(): void;
  /** Nobody waits any more. */
  isOver(): boolean;
}

export class UntilPassed {
  readonly #clock: Clock;
  readonly #events: WaitEvents;
  #waitsFor: Fault | null = null;
  #wake: (() => void) | null = null;

  constructor(clock: Clock, events: WaitEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  /** What is waited for to pass; null when nothing is. */
  get waitsFor(): Fault | null {
    return this.#waitsFor;
  }

  /** Resolves to true when `attempt` has succeeded, to false when it is over before. Throws what may not pass. */
  async run(
    attempt: () => Promise<void>,
    mayPass: (thrown: unknown) => thrown is Fault = isWantOfRoom,
  ): Promise<boolean> {
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(LAST_RETRY_MS, delayMs * 2)) {
      try {
        await attempt();
        if (this.#waitsFor !== null) {
          this.#waitsFor = null;
          this.#events.goesOn();
        }
        return true;
      } catch (error) {
        if (!mayPass(error)) throw error;
        const isNews = this.#waitsFor?.code !== error.code;
        this.#waitsFor = error;
        if (isNews) await this.#events.waits(error);
      }
      if (!this.#events.isOver()) await this.#pause(delayMs);
      if (this.#events.isOver()) return false;
    }
  }

  /** It may have passed, or it is over: do not wait for the next try. */
  retryNow(): void {
    this.#wake?.();
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(delayMs, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}
