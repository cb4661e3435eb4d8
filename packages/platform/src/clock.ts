/**
 * Time as the core sees it. Core code never reads a clock or sets a timer of its own: it is handed a
 * Clock, so that a whole cluster can run in virtual time from one seed.
 *
 * Always holds: monotonicMs never goes back; unixMs may jump either way.
 */
export interface Clock {
  /** Milliseconds, with fractions, since an arbitrary moment; never goes back. For ages and time limits. */
  monotonicMs(): number;
  /** Milliseconds since 1970-01-01 UTC; may jump. For what people read. */
  unixMs(): number;
  /** Calls `run` once, `delayMs` from now. The timer does not keep a process alive by itself. */
  after(delayMs: number, run: () => void): Timer;
}

export interface Timer {
  /** Makes sure `run` is not called any more. Harmless when it was, or twice. */
  cancel(): void;
}

/** Resolves after `delayMs`. */
export function sleep(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(delayMs, resolve);
  });
}
