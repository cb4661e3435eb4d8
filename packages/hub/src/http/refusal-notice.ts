/**
 * Tells the log of requests that were not let in. Always holds: once a minute for each reason at most, with how often it was
 * meanwhile, so that whoever knocks cannot fill the log.
 */
import type { Clock } from '@rephub/platform';

const TELL_AGAIN_MS = 60_000;

interface Told {
  readonly atMs: number;
  /** Requests since then, which were not told. */
  untold: number;
}

export class RefusalNotice {
  readonly #clock: Clock;
  readonly #tell: (message: string, path: string, times: number) => void;
  /** By message: there are few of those. */
  readonly #told = new Map<string, Told>();

  constructor(clock: Clock, tell: (message: string, path: string, times: number) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  refused(message: string, path: string): void {
    const now = this.#clock.monotonicMs();
    const before = this.#told.get(message);
    if (before !== undefined && now - before.atMs < TELL_AGAIN_MS) {
      before.untold += 1;
      return;
    }
    this.#told.set(message, { atMs: now, untold: 0 });
    this.#tell(message, path.slice(0, 200), 1 + (before?.untold ?? 0));
  }
}
