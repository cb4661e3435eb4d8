/**
 * That folding waits for something that may pass, or be put right while the hub runs: what for, until when, and what is said.
 *
 * Always holds: nothing else is waited for, a failed sync least of all; want of room is tried again every second, for the
 * journal may wait for the same room; anything else less and less often.
 * Must not know: layers, images.
 */
import { type Clock, Fault, type Logger } from '@rephub/platform';
import { isWantOfRoom, mayPass } from '../passing-faults.js';

const FIRST_MS = 1000;
const MOST_MS = 60_000;
/** The same is told again after this long, should it have gone on meanwhile. */
const TELL_AGAIN_MS = 60_000;

export class FoldWaits {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #line: string;
  #fault: Fault | null = null;
  #pauseMs = 0;
  #untilMs = 0;
  /** Its beginning was told, and its end was not. */
  #isTold = false;
  #toldAtMs = -Infinity;

  constructor(clock: Clock, log: Logger, line: string) {
    this.#clock = clock;
    this.#log = log;
    this.#line = line;
  }

  /** What it waits for to pass; null when it does not wait. */
  get fault(): Fault | null {
    return this.#fault;
  }

  /** Before the next try; 0 when that is due, or nothing is waited for. */
  get leftMs(): number {
    return Math.max(0, this.#untilMs - this.#clock.monotonicMs());
  }

  /** The next try is due now. */
  hurry(): void {
    this.#untilMs = 0;
  }

  /** A fold ended with this. False when it is nothing to wait for. */
  failed(thrown: unknown): boolean {
    if (!(thrown instanceof Fault) || !mayPass(thrown)) return false;
    const nowMs = this.#clock.monotonicMs();
    this.#pauseMs = isWantOfRoom(thrown) ? FIRST_MS : Math.min(MOST_MS, Math.max(FIRST_MS, 2 * this.#pauseMs));
    this.#untilMs = nowMs + this.#pauseMs;
    const isNew = this.#fault?.code !== thrown.code;
    this.#fault = thrown;
    if (this.#isTold ? !isNew : nowMs - this.#toldAtMs < TELL_AGAIN_MS) return true;
    this.#isTold = true;
    this.#toldAtMs = nowMs;
    this.#log.warn('apply-waits', { line: this.#line, why: thrown.code, message: thrown.message });
    return true;
  }

  /** Something was folded, or nothing has to be any more. */
  ended(): void {
    this.#fault = null;
    this.#pauseMs = 0;
    this.#untilMs = 0;
    if (!this.#isTold) return;
    this.#isTold = false;
    this.#log.info('apply-goes-on', { line: this.#line, message: 'the base images are brought up to date again' });
  }
}
