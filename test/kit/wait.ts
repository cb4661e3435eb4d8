/**
 * Waiting for what another process does. Always for a condition, never for a time; the time is only the limit after
 * which the wait fails and says what it waited for and what it last saw.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface WaitOptions {
  /** Default 15 s: two cores may be shared by several runs. */
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
  /** Called for the failure's text: what was last seen. */
  readonly seen?: () => string;
}

/** Asks `check` until it gives something other than undefined or false; that is the result. */
export async function waitUntil<T>(
  what: string,
  check: () => Promise<T | undefined | false> | T | undefined | false,
  options: WaitOptions = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 15_000;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) {
      const seen = options.seen === undefined ? '' : `; last seen: ${options.seen()}`;
      throw new Error(`waited ${timeoutMs} ms for ${what}${seen}`);
    }
    await delay(options.intervalMs ?? 20);
  }
}

/** The promise, or a failure that names what was waited for. */
export async function within<T>(what: string, timeoutMs: number, promise: Promise<T>): Promise<T> {
  const abort = new AbortController();
  const limit = delay(timeoutMs, undefined, { signal: abort.signal }).then(
    () => {
      throw new Error(`waited ${timeoutMs} ms for ${what}`);
    },
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([promise, limit]);
  } finally {
    abort.abort();
  }
}
