/**
 * What was asked of the agent beyond its marks: everything to be sent, or compared, and why. Kept in a note in the identity
 * file, so that the next process goes on with it as it was meant: marks alone do not tell whether what they mean is to be
 * compared first.
 *
 * Always holds: from when `give` has resolved until the span that serves the order has ended durably, every process of this
 * state directory knows of it; an order that was given anew meanwhile is not served by the span before.
 * Must not know: how content is copied, when a span begins.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Logger } from '@rephub/platform';

const NOTE = 'resync';
const LONGEST_CAUSE = 200;
/** The note's first word: not all is marked yet for it, or all was. */
type Stage = 'marking' | 'sending';

export class ResyncOrder {
  readonly #tracker: Tracker;
  readonly #log: Logger;
  #cause: string | null = null;
  #isFull = false;
  #stage: Stage = 'sending';
  /** Of the order that was given last, since this process began. */
  #marking: Promise<void> | null = null;
  /** All that is to be sent for it is dirty, here in memory. */
  #isBegun = false;
  /** All of it was sent; the span's end is not durable yet. */
  #isSent = false;

  constructor(tracker: Tracker, log: Logger) {
    this.#tracker = tracker;
    this.#log = log;
    const [, stage, cause] =
      /^(marking|sending) ((?:full|compare): .*)$/s.exec(tracker.identity.notes[NOTE] ?? '') ?? [];
    if (stage === undefined || cause === undefined) return;
    this.#cause = cause;
    this.#isFull = cause.startsWith('full');
    this.#stage = stage === 'marking' ? 'marking' : 'sending';
    this.#isBegun = this.#stage === 'sending';
    log.info('resync-recalled', { cause });
  }

  /** Begins with `full: ` or `compare: `; null: nothing was asked for. */
  get cause(): string | null {
    return this.#cause;
  }

  /** All that is dirty is to be sent, whatever the hub may hold. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /**
   * The order counts at once; `mark` makes everything dirty at once, and resolves when that is durable. Known to the next
   * process, with its marks, when this resolves. Rejects as `mark` does.
   */
  async give(compare: boolean, cause: string, mark: (cause: string) => Promise<void>): Promise<void> {
    this.#cause = `${compare ? 'compare' : 'full'}: ${cause}`.slice(0, LONGEST_CAUSE);
    this.#isFull = !compare;
    this.#isSent = false;
    this.#stage = 'marking';
    const noted = this.#note();
    await this.#markFor(mark(this.#cause));
    await noted;
  }

  /** Marks for an order that an earlier process had only begun to mark for. Rejects as `mark` does. */
  async markAgain(mark: (cause: string) => Promise<void>): Promise<void> {
    if (this.#cause !== null && this.#stage === 'marking') await this.#markFor(mark(this.#cause));
  }

  async #markFor(marking: Promise<void>): Promise<void> {
    this.#isBegun = true;
    this.#marking = marking;
    await marking;
    // An order that was given meanwhile is marked for when its own marks are durable.
    if (this.#marking !== marking || this.#cause === null || this.#stage !== 'marking') return;
    this.#stage = 'sending';
    await this.#note();
  }

  /** Nothing is dirty any more, and the span's end is on its way. */
  sent(): void {
    this.#isSent = this.#isBegun;
  }

  /** The span's end is durable at the hub. */
  spanDurable(): void {
    if (this.#isSent) this.drop();
  }

  /** It has no meaning any more: the hub begins anew, or is known to be equal. */
  drop(): void {
    if (this.#cause === null) return;
    this.#cause = null;
    this.#isFull = false;
    this.#isSent = false;
    void this.#note();
  }

  async #note(): Promise<void> {
    const { notes } = this.#tracker.identity;
    const note = this.#cause === null ? '' : `${this.#stage} ${this.#cause}`;
    try {
      await this.#tracker.saveIdentity({ notes: { ...notes, [NOTE]: note } });
    } catch (fault) {
      // A crash would go on by comparing.
      this.#log.warn('resync-not-noted', { fault: String(fault) });
    }
  }
}
