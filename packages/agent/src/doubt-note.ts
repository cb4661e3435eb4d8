/**
 * Tells the next process that a failed flush has dropped what readers see still: whatever is marked then may be that, and is
 * written again when it is copied (doubts.ts). A note in the identity file.
 *
 * Must not know: flushes, upstream.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Logger } from '@rephub/platform';
import { type Doubts } from './doubts.js';

const NOTE = 'dropped';
const YES = 'yes';
/** One run of marks may be the whole disk. */
const STEP_BYTES = 256 * 1024 * 1024;

export interface DoubtedVolume {
  readonly index: number;
  readonly doubts: Doubts;
}

export class DoubtNote {
  readonly #tracker: Tracker;
  readonly #log: Logger;
  readonly #volumes: () => readonly DoubtedVolume[];

  constructor(tracker: Tracker, log: Logger, volumes: () => readonly DoubtedVolume[]) {
    this.#tracker = tracker;
    this.#log = log;
    this.#volumes = volumes;
  }

  /** What an earlier process has left: before anything is copied. */
  recall(): void {
    if (!this.#isNoted) return;
    let bytes = 0;
    for (const { index, doubts } of this.#volumes()) {
      for (const { offset, length } of this.#tracker.runs(index)) {
        for (let at = offset; at < offset + length; at += STEP_BYTES) {
          const step = Math.min(STEP_BYTES, offset + length - at);
          if (doubts.add(at, step)) bytes += step;
        }
      }
    }
    this.#log.warn('doubts-recalled', { bytes });
    this.look();
  }

  /** Notes whether there are any doubts, where that is not noted yet. Never rejects. */
  look(): void {
    const isDoubted = this.#volumes().some(({ doubts }) => doubts.bytes > 0);
    if (isDoubted === this.#isNoted) return;
    this.#tracker
      .saveIdentity({ notes: { ...this.#tracker.identity.notes, [NOTE]: isDoubted ? YES : '' } })
      .catch((fault: unknown) => {
        this.#log.warn('identity-not-saved', { fault: String(fault) });
      });
  }

  get #isNoted(): boolean {
    return this.#tracker.identity.notes[NOTE] === YES;
  }
}
