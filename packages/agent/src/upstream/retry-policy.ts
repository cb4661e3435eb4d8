/**
 * When a failed operation is repeated, and how often a lost upstream is looked for. Pure.
 *
 * The delays are the retry filter's: `delayMs` before the first repetition, twice as much before each further one.
 * Looking for a lost upstream costs nobody anything, so it is done more often than that: what the policy
 * bounds is how long a request waits, not how many connections are tried.
 */
import { NbdError } from '@rephub/nbd';

export interface RetryPolicy {
  /** Repetitions after the first try; Infinity: for ever. */
  readonly retries: number;
  readonly delayMs: number;
  /** The delay doubles from try to try. */
  readonly exponential: boolean;
}

/** No delay grows beyond this. */
export const LONGEST_DELAY_MS = 60_000;
/** A lost upstream is looked for so often while it has just gone … */
const QUICK_PROBE_MS = 50;
/** … for the first two delays, within these bounds; */
const QUICK_LEAST_MS = 1_000;
const QUICK_MOST_MS = 30_000;
/** and at least so often afterwards. */
const SLOW_PROBE_MS = 5_000;
/** Time for one connection to be had; doubled after each that took too long. */
const FIRST_CONNECT_MS = 1_000;
const LONGEST_CONNECT_MS = 10_000;

/** Promise GUEST: what upstream may answer differently when asked again. All else passes at once. */
export function isRetried(error: number): boolean {
  return error === NbdError.Eio || error === NbdError.Eshutdown;
}

/** What is waited before the `nth` repetition, from 1 on. */
export function delayBefore(policy: RetryPolicy, nth: number): number {
  const doublings = policy.exponential ? Math.min(nth - 1, 30) : 0;
  return Math.min(policy.delayMs * 2 ** doublings, Math.max(LONGEST_DELAY_MS, policy.delayMs));
}

/** How long a request that has failed `failures` times waits for a connection before it fails for good. */
export function patienceMs(policy: RetryPolicy, failures: number): number {
  if (policy.retries === Infinity) return Infinity;
  let sumMs = 0;
  for (let nth = Math.max(1, failures); nth <= policy.retries; nth++) {
    const delayMs = delayBefore(policy, nth);
    if (delayMs === delayBefore(policy, nth + 1)) return sumMs + delayMs * (policy.retries - nth + 1);
    sumMs += delayMs;
  }
  return sumMs;
}

/** How soon a lost upstream is looked for again, when it has been away for `awayMs`. */
export function probeDelayMs(policy: RetryPolicy, awayMs: number): number {
  const firstTwoMs = delayBefore(policy, 1) + delayBefore(policy, 2);
  if (awayMs < Math.min(Math.max(firstTwoMs, QUICK_LEAST_MS), QUICK_MOST_MS)) return QUICK_PROBE_MS;
  return Math.min(Math.max(policy.delayMs, QUICK_PROBE_MS), SLOW_PROBE_MS);
}

/** How long the next attempt to connect may take, after so many that took too long. */
export function connectTimeoutMs(timedOut: number): number {
  return Math.min(FIRST_CONNECT_MS * 2 ** Math.min(timedOut, 10), LONGEST_CONNECT_MS);
}
