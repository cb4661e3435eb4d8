/**
 * That folding waits for something that may pass, or be put right while the hub runs: what for, until when, and what is said.
 *
 * Always holds: nothing else is waited for, a failed sync least of all; want of room is tried again every second, for the
 * journal may wait for the same room, but a layer that takes long to read only when there is more room, or after a while;
 * anything else less and less often.
 * Must not know: layers, images.
 */
import { type Clock, Fault, type Logger } from '@rephub/platform';
import { isWantOfRoom, mayPass } from '../passing-faults.js';

const FIRST_MS = 1000;
const MOST_MS = 60_000;
/** The same is told again after this long, should it have gone on meanwhile. */
const TELL_AGAIN_MS = 60_000;
/** Trying in vain takes at most this part of the time… */
const TRYING_SHARE = 20;
/** … unless there is more room by this part of the layer. */
const WORTH_SHARE = 16;

/** What it took to try. */
export interface Try {
  readonly tookMs: number;
  /** Journal bytes of what was to be folded. */
  readonly bytes: number;
}

export class FoldWaits {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #line: string;
  #fault: Fault | null = null;
  #pauseMs = 0;
  #untilMs = 0;
  /** The least room that was seen since the last try, and how much more is worth another one; while it waits for room. */
  #room: { freeBytes: number; readonly worthBytes: number } | null = null;
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

  /** It waits for room: whoever asks should look how much there is, each second. */
  get isForRoom(): boolean {
    return this.#room !== null;
  }

  /** The next try is due now. */
  hurry(): void {
    this.#untilMs = 0;
  }

  /** So much room there is now; Infinity when nobody knows. */
  sawRoom(freeBytes: number): void {
    const room = this.#room;
    if (room === null || freeBytes === Infinity) return;
    if (freeBytes < room.freeBytes) room.freeBytes = freeBytes;
    else if (freeBytes >= room.freeBytes + room.worthBytes) this.hurry();
  }

  /** A fold ended with this. False when it is nothing to wait for. */
  failed(thrown: unknown, { tookMs, bytes }: Try): boolean {
    if (!(thrown instanceof Fault) || !mayPass(thrown)) return false;
    const nowMs = this.#clock.monotonicMs();
    const isForRoom = isWantOfRoom(thrown);
    const leastMs = Math.max(FIRST_MS, isForRoom ? TRYING_SHARE * tookMs : 2 * this.#pauseMs);
    this.#pauseMs = Math.min(MOST_MS, leastMs);
    this.#room = isForRoom ? { freeBytes: Infinity, worthBytes: Math.max(1, bytes / WORTH_SHARE) } : null;
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
    this.#room = null;
    if (!this.#isTold) return;
    this.#isTold = false;
    this.#log.info('apply-goes-on', { line: this.#line, message: 'the base images are brought up to date again' });
  }
}
