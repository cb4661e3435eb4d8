/** The real clock. Owns nothing; timers do not keep the process alive by themselves. */
import type { Clock, Timer } from '../clock.js';

/** The longest delay Node's timers take, nearly 25 days; longer ones would fire at once. */
const LONGEST_DELAY_MS = 0x7fff_ffff;

/** The clock of this machine. */
export function nodeClock(): Clock {
  return {
    monotonicMs: () => performance.now(),
    unixMs: () => Date.now(),
    after: (delayMs, run): Timer => {
      let leftMs = Math.max(delayMs, 0);
      const wait = (): NodeJS.Timeout => {
        const stepMs = Math.min(leftMs, LONGEST_DELAY_MS);
        leftMs -= stepMs;
        return setTimeout(leftMs > 0 ? goOn : run, stepMs).unref();
      };
      const goOn = (): void => {
        timeout = wait();
      };
      let timeout = wait();
      return { cancel: () => clearTimeout(timeout) };
    },
  };
}
