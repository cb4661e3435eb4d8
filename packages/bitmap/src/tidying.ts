/**
 * When proof is asked for and when what it has cleared leaves the disk: marks that have done their work go by themselves, so
 * that a crash marks no more than it must.
 *
 * Always holds: one flush is asked for at a time, and only when marks wait for nothing else; pages are written again a
 * while after they have become stale, however many more become stale meanwhile.
 * Must not know: files, network, who flushes.
 */
import type { Clock, Timer } from '@rephub/platform';
import type { Marks } from './marks.js';
import type { PageWriter } from './page-writer.js';

/** How long proven marks may stay on the disk before their pages are written again. */
const TIDY_DELAY_MS = 1000;

export interface TidyingParts {
  readonly clock: Clock;
  readonly marks: Pick<Marks, 'pending' | 'durableNumber' | 'flushedTicket' | 'waitsForFlush'>;
  /** Of hot extents. */
  readonly slots: number;
  readonly pages: Pick<PageWriter, 'prepare' | 'writeStale'>;
  /** Marks are kept, and the files take them. */
  readonly isKept: () => boolean;
  readonly wantsFlush: () => void;
}

export class Tidying {
  readonly #parts: TidyingParts;
  /** A flush was asked for and none has completed since. */
  #isFlushAsked = false;
  #timer: Timer | null = null;

  constructor(parts: TidyingParts) {
    this.#parts = parts;
  }

  /** Marks have been cleared, or a flush would clear some. */
  schedule(): void {
    if (this.#timer !== null || !this.#parts.isKept()) return;
    this.#timer = this.#parts.clock.after(TIDY_DELAY_MS, this.#tidy);
  }

  readonly #tidy = (): void => {
    this.#timer = null;
    if (!this.#parts.isKept()) return;
    const { pending, durableNumber, flushedTicket } = this.#parts.marks;
    if (pending.waitsForFlush(durableNumber, flushedTicket)) this.#askForFlush();
    this.#parts.pages.writeStale().catch(() => undefined);
  };

  /** Asks for a flush where one is all that some mark waits for. */
  askIfNeeded(): void {
    if (!this.#isFlushAsked && this.#parts.marks.waitsForFlush()) this.#askForFlush();
  }

  flushed(): void {
    this.#isFlushAsked = false;
  }

  /** Few slots can be had. First ask for proof, which costs no marks; then make marks finer. */
  makeRoom(coolable: number, isStarving: boolean): void {
    const { slots } = this.#parts;
    this.askIfNeeded();
    if (isStarving || coolable < slots >> 3) this.#parts.pages.prepare(slots >> 2);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #askForFlush(): void {
    if (this.#isFlushAsked) return;
    this.#isFlushAsked = true;
    this.#parts.wantsFlush();
  }
}
