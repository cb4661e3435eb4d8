/**
 * Marking as the write path sees it, with promise FAIL-OPEN around the tracker: when a mark cannot be made
 * durable, tracking is first made untrusted in a way that survives, then writes pass unmarked and mirroring stops; while not even that
 * works, writes wait.
 *
 * Always holds: a write goes upstream only when its range is marked on the disk, or the disk says that
 * nothing there is to be believed.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Clock, type Logger, sleep } from '@rephub/platform';

const DISTRUST_RETRY_MS = 1000;

export class Marks {
  readonly #tracker: Tracker;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #lost: (fault: unknown) => void;
  #unmarked = false;
  #distrusting: Promise<void> | null = null;

  /** `lost` is called once, when tracking has become untrusted: mirroring must stop. */
  constructor(tracker: Tracker, clock: Clock, log: Logger, lost: (fault: unknown) => void) {
    this.#tracker = tracker;
    this.#clock = clock;
    this.#log = log;
    this.#lost = lost;
  }

  /** Writes pass without marks: the next start compares everything. */
  get unmarked(): boolean {
    return this.#unmarked;
  }

  /** True: marked, go on. False: `activate` first. */
  begin(volume: number, offset: number, length: number): boolean {
    if (this.#unmarked) return true;
    try {
      return this.#tracker.begin(volume, offset, length);
    } catch {
      // A bug: whoever activates meets it again, and there it is seen to.
      return false;
    }
  }

  /** Resolves when the write may go upstream. Never rejects. */
  async activate(volume: number, offset: number, length: number): Promise<void> {
    if (this.#unmarked) return;
    try {
      await this.#tracker.activate(volume, offset, length);
    } catch (fault) {
      await this.disown(fault);
    }
  }

  /** What the disk says is no longer kept true: resolves when nobody can believe it any more. Never rejects. */
  async disown(fault: unknown): Promise<void> {
    this.#distrusting ??= this.#distrust(fault);
    await this.#distrusting;
  }

  /** Never throws: whoever has marked a write answers it. */
  end(volume: number, offset: number, length: number, ticket: number, number: number): void {
    if (this.#unmarked) return;
    try {
      this.#tracker.end(volume, offset, length, ticket, number);
    } catch (fault) {
      // A bug: what the disk says of it is no more than it was, and what is known in memory is not to be relied on.
      void this.disown(fault);
    }
  }

  async #distrust(fault: unknown): Promise<void> {
    this.#log.error('marks-not-durable', { fault: String(fault) });
    for (;;) {
      try {
        await this.#tracker.distrust(`a mark could not be made durable: ${String(fault)}`);
        this.#unmarked = true;
        this.#lost(fault);
        return;
      } catch (again) {
        this.#log.error('writes-wait', { why: 'tracking can be neither kept nor disowned', fault: String(again) });
        await sleep(this.#clock, DISTRUST_RETRY_MS);
      }
    }
  }
}
