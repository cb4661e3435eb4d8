/**
 * Flushes connections that have been idle, which keeps them alive and writes data out while nobody minds. Looks
 * every half of the time; never at a connection that is busy.
 *
 * A connection that is lost meanwhile is lost as any other. A flush that is answered with an error is told: the next
 * one that somebody waits for must not be believed by itself (promise FLUSH).
 */
import { BlockRequest, Command } from '@rephub/nbd';
import { type Clock, type Timer } from '@rephub/platform';
import { type Lane, type LaneUser } from './lane.js';

export interface KeepAliveParts {
  readonly clock: Clock;
  /** Infinity: never. */
  readonly idleMs: number;
  readonly lanes: readonly Lane[];
  /** False while connections are being recovered. */
  readonly isQuiet: () => boolean;
  /** True: something is unflushed, and a flush that counts what it covers has been asked for instead. */
  readonly flushesItself: () => boolean;
  /** A flush of its own has ended; `isLost`: with the connection. */
  readonly ended: (error: number, isLost: boolean) => void;
}

/** Standing still at two looks, half the time apart, is to be idle for that time. */
const QUIET_LOOKS = 2;

export class KeepAlive {
  readonly #parts: KeepAliveParts;
  #timer: Timer | null = null;

  constructor(parts: KeepAliveParts) {
    this.#parts = parts;
  }

  start(): void {
    const { clock, idleMs } = this.#parts;
    if (idleMs === Infinity) return;
    this.#timer = clock.after(idleMs / QUIET_LOOKS, () => {
      this.start();
      if (this.#parts.isQuiet()) this.#look();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #look(): void {
    const { lanes, flushesItself, ended } = this.#parts;
    for (const lane of [...lanes]) {
      const isIdle = lane.sent === lane.sentSeen && lane.inFlight === 0;
      lane.quietLooks = isIdle ? lane.quietLooks + 1 : 0;
      if (lane.quietLooks >= QUIET_LOOKS) {
        lane.quietLooks = 0;
        if (!flushesItself()) new IdleFlush(lane, ended).start();
      }
      lane.sentSeen = lane.sent;
    }
  }
}

class IdleFlush implements LaneUser {
  readonly #lane: Lane;
  readonly #ended: KeepAliveParts['ended'];

  constructor(lane: Lane, ended: KeepAliveParts['ended']) {
    this.#lane = lane;
    this.#ended = ended;
  }

  start(): void {
    const request = new BlockRequest(this);
    request.command = Command.Flush;
    this.#lane.submit(request);
  }

  completed(request: BlockRequest): void {
    this.#lane.inFlight--;
    this.#ended(request.error, false);
  }

  taken(): void {
    this.#ended(0, true);
  }
}
