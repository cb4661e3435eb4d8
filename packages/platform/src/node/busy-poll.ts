/**
 * Looking for the next event again and again for some microseconds, instead of going to sleep at once: waking a sleeping
 * thread costs as much as a small request does. What QEMU's event loop does too (poll-max-ns).
 *
 * Always holds: it is only looked for while its owner says that something is to be expected soon and little else is under
 * way; where events come later than the window, credit is used up and the thread sleeps, until they come closer again.
 * Must not know: sockets, what the events are.
 */
import { performance } from 'node:perf_hooks';

const FULL_CREDIT = 16;
/** From so much credit on it is worth trying. */
const ENOUGH_CREDIT = 8;
/** An event that came too late costs more than one in time has gained. */
const LATE = 2;
/** Who slept was woken late: it would have come sooner. */
const SLEPT = 2;

export interface EventLoop {
  /** Milliseconds, with fractions. */
  readonly nowMs: () => number;
  /** Calls back in the next turn of the loop, which does not sleep before that. */
  readonly nextTurn: (callback: () => void) => void;
}

const NODE_LOOP: EventLoop = { nowMs: () => performance.now(), nextTurn: (callback) => void setImmediate(callback) };

export class BusyPoll {
  /** Is little enough under way that the next event decides? To be set by whoever knows. */
  expectsOne: () => boolean = () => false;
  readonly #windowMs: number;
  readonly #loop: EventLoop;
  #lastMs = -Infinity;
  #credit = FULL_CREDIT;
  #isPolling = false;

  /** A window of 0: never. */
  constructor(windowMs: number, loop: EventLoop = NODE_LOOP) {
    this.#windowMs = windowMs;
    this.#loop = loop;
  }

  /** An event has come: look for the next one for a while. */
  noted(): void {
    if (this.#windowMs === 0 || !this.expectsOne()) return;
    const nowMs = this.#loop.nowMs();
    const isLate = nowMs - this.#lastMs > (this.#isPolling ? 1 : SLEPT) * this.#windowMs;
    this.#credit = isLate ? Math.max(0, this.#credit - LATE) : Math.min(FULL_CREDIT, this.#credit + 1);
    this.#lastMs = nowMs;
    if (this.#isPolling || this.#credit < ENOUGH_CREDIT) return;
    this.#isPolling = true;
    this.#loop.nextTurn(this.#turn);
  }

  readonly #turn = (): void => {
    this.#isPolling = this.expectsOne() && this.#loop.nowMs() - this.#lastMs < this.#windowMs;
    if (this.#isPolling) this.#loop.nextTurn(this.#turn);
  };
}
