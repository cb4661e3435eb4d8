/** The real clock. Owns nothing; timers do not keep the process alive by themselves. */
import type { Clock, Timer } from '../clock.js';

/** The longest delay Node's timers take; longer ones would fire at once. */
const LONGEST_DELAY_MS = 0x7fff_ffff;

/** The clock of this machine. Delays beyond 24 days are cut to that. */
export function nodeClock(): Clock {
  return {
    monotonicMs: () => performance.now(),
    unixMs: () => Date.now(),
    after: (delayMs, run): Timer => {
      const timeout = setTimeout(run, Math.min(Math.max(delayMs, 0), LONGEST_DELAY_MS));
      timeout.unref();
      return { cancel: () => clearTimeout(timeout) };
    },
  };
}
