/**
 * What a volume owes its guest: acknowledged writes are gone for good, and the next flush must fail, once (promise FLUSH).
 *
 * Must not know: which writes, how a flush is sent.
 */

/** What of upstream is not played yet: what a failed flush may have dropped, what it may have lost. */
export interface UpstreamDoubt {
  readonly mayHaveDropped: boolean;
  readonly mayHaveLost: boolean;
}

export class FlushDebt {
  readonly #canFlush: boolean;
  readonly #upstream: UpstreamDoubt;
  readonly #changed: () => void;
  #isDue = false;

  constructor(canFlush: boolean, upstream: UpstreamDoubt, changed: () => void) {
    this.#canFlush = canFlush;
    this.#upstream = upstream;
    this.#changed = changed;
  }

  /** The guest's next flush fails, or the one under way. */
  get isDue(): boolean {
    return this.#isDue;
  }

  /** It is due; or it would be, if this process did not live to write again what upstream may have lost. */
  get isOwed(): boolean {
    return this.#canFlush && (this.#isDue || this.#upstream.mayHaveLost);
  }

  owe(): void {
    this.#isDue = true;
    this.#changed();
  }

  /** The guest has been told: a client that is there was answered. */
  settle(): void {
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#changed();
  }
}
