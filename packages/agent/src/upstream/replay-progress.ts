/**
 * What the replays of one outage have achieved and learnt: an outage may take many of them, and each goes on where a flush has
 * made stable what was played before it. Where one was cut short, or what it wrote may have been dropped, the next one flushes
 * on its way, so that the end is reached however often that happens. Pure.
 *
 * Must not know: entries, connections.
 */
import { type Piece } from '../ranges.js';

/** What is played between two flushes is no less than what is under way together. */
const LEAST_STRIDE = 16;

export class ReplayProgress {
  /** Of what was played and is stable: all of it, what may hold something else now, and what a dropping flush may have taken. */
  readonly playedAgain: Piece[] = [];
  readonly unsure: Piece[] = [];
  readonly unplayed: Piece[] = [];
  #stride = Infinity;
  #fuaByFlush = false;
  #mayFlush = true;

  /** So many entries are played, then upstream is flushed. */
  get stride(): number {
    return this.#stride;
  }

  /** What was to be on stable storage is played as a write, and flushed with the rest. */
  get fuaByFlush(): boolean {
    return this.#fuaByFlush;
  }

  /** False: the last one ended with a flush that failed, and this one does without, or none might ever end. */
  get mayFlush(): boolean {
    return this.#mayFlush;
  }

  /** So many entries were played since the last flush, and the connection was lost: they are to be played again. */
  cut(entries: number): void {
    this.#stride = Math.max(LEAST_STRIDE, Math.floor(Math.min(this.#stride, entries) / 2));
    this.#mayFlush = true;
  }

  /** One that was to be on stable storage has failed. */
  syncFailed(): void {
    this.#fuaByFlush = true;
    this.#mayFlush = true;
  }

  /** Some are to be tried again. */
  refused(): void {
    this.#mayFlush = true;
  }

  flushFailed(): void {
    this.#stride = Infinity;
    this.#fuaByFlush = false;
    this.#mayFlush = false;
  }

  flushed(): void {
    this.#stride *= 2;
  }
}
