/**
 * When it pays to compress: while the link is what everything waits for, and the data shrinks. Pure: times and figures come in.
 *
 * Always holds:
 *  - `auto`: nothing is compressed before records have waited for the link all through WAIT_MS, and the link has taken less
 *    meanwhile than a share of what the codec can do; it ends when nothing has waited for CALM_MS and what comes would fit the
 *    link as it is;
 *  - data that does not shrink is tried for TRIAL_BYTES, then not again for a time that doubles from try to try.
 * Must not know: codecs, links, clocks.
 */

/** Records must have waited for so long, without a pause. */
const WAIT_MS = 500;
/** Nothing waits any more for so long. */
const CALM_MS = 1_000;
/** A codec is worth its time on a link that takes at most this share of what it makes. */
const SHARE = 1 / 4;
/** Within this machine, bytes a ms: what looks like a slow link is mostly a disk behind it, or a processor that has no time. */
const LOCAL_RATE = 8_000;
/** What a codec is taken to do before it was measured. */
const FIRST_BYTES_PER_MS = 600_000;
/** Judged when so many raw bytes were tried. */
const TRIAL_BYTES = 256 * 1024;
/** Less saved than this is not worth it. */
const LEAST_SAVED = 0.1;
const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 60_000;

export type CompressionWish = 'auto' | 'always';

/** One look at the link. */
export interface LinkSample {
  readonly nowMs: number;
  /** Bytes that have left towards the hub since the link came up. */
  readonly leftBytes: number;
  /** Bytes that records would have taken uncompressed, made since then. */
  readonly rawBytes: number;
  /** Records wait for the link. */
  readonly waits: boolean;
}

export class CompressionPolicy {
  readonly #wish: CompressionWish;
  readonly #mostRate: number;
  #isSlow = false;
  /** Since when records have waited, and what had left by then; null while none waits. */
  #waiting: LinkSample | null = null;
  /** Since when none has. */
  #calm: LinkSample | null = null;
  /** What the link took when it was found slow, bytes a ms. */
  #linkRate = 0;
  #codecRate = FIRST_BYTES_PER_MS;
  #triedBytes = 0;
  #madeBytes = 0;
  #tookMs = 0;
  #restsUntilMs = -Infinity;
  #restMs = 0;

  constructor(wish: CompressionWish, isLocal: boolean) {
    this.#wish = wish;
    this.#mostRate = isLocal ? LOCAL_RATE : Infinity;
    this.#isSlow = wish === 'always';
  }

  /** Whether the next record is to be compressed. */
  isOn(nowMs: number): boolean {
    return this.#isSlow && nowMs >= this.#restsUntilMs;
  }

  /** When to ask again although nothing happens; null: no need to. */
  get restsUntilMs(): number | null {
    return this.#restsUntilMs === -Infinity ? null : this.#restsUntilMs;
  }

  /** True when there is nothing to look at until records wait again. */
  get isIdle(): boolean {
    return this.#wish === 'always' || (!this.#isSlow && this.#waiting === null);
  }

  /** Looked at every so often while records wait, or what comes is compressed. */
  look(sample: LinkSample): void {
    if (this.#wish === 'always') return;
    if (!sample.waits) {
      this.#waiting = null;
      if (this.#isSlow) this.#lookWhileCalm(sample);
      return;
    }
    this.#calm = null;
    this.#waiting ??= sample;
    const forMs = sample.nowMs - this.#waiting.nowMs;
    if (forMs < WAIT_MS) return;
    this.#linkRate = (sample.leftBytes - this.#waiting.leftBytes) / forMs;
    this.#isSlow = this.#linkRate < Math.min(this.#codecRate * SHARE, this.#mostRate);
    this.#waiting = sample;
  }

  /** A record was tried: its raw bytes, what they were made into, and how long that took. */
  tried(nowMs: number, rawBytes: number, packedBytes: number, tookMs: number): void {
    this.#triedBytes += rawBytes;
    this.#madeBytes += Math.min(rawBytes, packedBytes);
    this.#tookMs += tookMs;
    if (this.#triedBytes < TRIAL_BYTES) return;
    const hasShrunk = this.#madeBytes <= this.#triedBytes * (1 - LEAST_SAVED);
    if (hasShrunk) this.#restMs = 0;
    else {
      this.#restMs = Math.min(LONGEST_REST_MS, Math.max(FIRST_REST_MS, 2 * this.#restMs));
      this.#restsUntilMs = nowMs + this.#restMs;
    }
    // A clock that stands still, as a simulated one does, measures nothing.
    if (this.#tookMs > 0) this.#codecRate = (this.#codecRate + this.#triedBytes / this.#tookMs) / 2;
    this.#triedBytes = 0;
    this.#madeBytes = 0;
    this.#tookMs = 0;
  }

  #lookWhileCalm(sample: LinkSample): void {
    this.#calm ??= sample;
    const forMs = sample.nowMs - this.#calm.nowMs;
    if (forMs < CALM_MS) return;
    const rawRate = (sample.rawBytes - this.#calm.rawBytes) / forMs;
    this.#calm = sample;
    // Compressing may be the reason why nothing waits.
    if (rawRate <= 0.8 * this.#linkRate) this.#isSlow = false;
  }
}
