/** How fast something goes lately, from what it has come to at some moments. Pure. */

/** Looked back upon. */
const SPAN_MS = 10_000;
const STEP_MS = 500;

export class RateMeter {
  /** Moments and what had been done then, oldest first. */
  readonly #seen: { readonly atMs: number; readonly bytes: number }[] = [];

  /** To be told often; keeps a moment every half second. */
  note(atMs: number, bytes: number): void {
    const last = this.#seen.at(-1);
    if (last !== undefined && atMs - last.atMs < STEP_MS) return;
    this.#seen.push({ atMs, bytes });
    // One moment beyond the span stays, so that the rate is of the whole span.
    while ((this.#seen[1]?.atMs ?? Infinity) <= atMs - SPAN_MS) this.#seen.shift();
  }

  /** Bytes a second over the last 10 s; null while there is nothing to tell it from. */
  bytesPerSecond(nowMs: number, bytes: number): number | null {
    const first = this.#seen[0];
    if (first === undefined || nowMs <= first.atMs) return null;
    return ((bytes - first.bytes) * 1000) / (nowMs - first.atMs);
  }
}
