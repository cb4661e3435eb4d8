/**
 * Does what needs room on the disk, and does it again, less and less often, until there is room for it.
 *
 * Always holds: only want of room is tried again; any other failure is the caller's.
 */
import { type Clock, Fault } from '@rephub/platform';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;

export interface RoomEvents {
  /** Want of room begins; awaited before the next try. */
  full(fault: Fault): Promise<void>;
  /** It is over. */
  hasRoom(): void;
  /** Nobody waits for room any more. */
  isOver(): boolean;
}

export class UntilRoom {
  readonly #clock: Clock;
  readonly #events: RoomEvents;
  #full = false;
  #wake: (() => void) | null = null;

  constructor(clock: Clock, events: RoomEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  /** True while room is waited for. */
  get full(): boolean {
    return this.#full;
  }

  /** Resolves to true when `attempt` has succeeded, to false when it is over before. Throws what else `attempt` throws. */
  async run(attempt: () => Promise<void>): Promise<boolean> {
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(LAST_RETRY_MS, delayMs * 2)) {
      try {
        await attempt();
        if (this.#full) {
          this.#full = false;
          this.#events.hasRoom();
        }
        return true;
      } catch (error) {
        if (!isWantOfRoom(error)) throw error;
        if (!this.#full) {
          this.#full = true;
          await this.#events.full(error);
        }
      }
      if (!this.#events.isOver()) await this.#pause(delayMs);
      if (this.#events.isOver()) return false;
    }
  }

  /** There may be room now, or it is over: do not wait for the next try. */
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

export function isWantOfRoom(error: unknown): error is Fault {
  return error instanceof Fault && (error.code === 'disk-full' || error.code === 'quota');
}
