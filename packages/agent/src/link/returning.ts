/**
 * Comes back to the hub for ever: one session after the other, each configured hub in its turn, with backoff in between (promise BEAT).
 *
 * Always holds: at most one session at a time, none while the agent is to stay away, none after `stop`; a wait ends early when
 * `wake` is called, and at no other time.
 *
 * Must not know: what a session is.
 */
import { asError, type Clock, type Randomness } from '@rephub/platform';
import { Backoff } from '@rephub/protocol';

export interface ReturningParts {
  readonly clock: Clock;
  readonly randomness: Randomness;
  /** One or more. */
  readonly urls: readonly string[];
  /** Asked before each session; after a true nothing happens until `wake`. */
  readonly staysAway: () => boolean;
  /** From connecting to the end. Resolves to the wait before the next one; null: as the backoff says. */
  readonly session: (url: string) => Promise<number | null>;
  readonly failed: (url: string, error: Error) => void;
  /** Told before each wait. */
  readonly waits: (url: string, delayMs: number) => void;
}

export class Returning {
  readonly #parts: ReturningParts;
  readonly #backoff: Backoff;
  #stopped = false;
  #returnsAtOnce = false;
  #wake: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(parts: ReturningParts) {
    this.#parts = parts;
    this.#backoff = new Backoff(parts.randomness);
  }

  start(): void {
    this.#running = this.#run();
  }

  /** No session begins any more; resolves when the one that is there has ended, which is the caller's to bring about. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.wake();
    await this.#running;
  }

  /** Waits no longer: something has changed. */
  wake(): void {
    this.#wake?.();
  }

  /** After the session that ends now: to the same hub, without waiting. */
  returnAtOnce(): void {
    this.#returnsAtOnce = true;
  }

  async #run(): Promise<void> {
    const { clock, urls } = this.#parts;
    let at = 0;
    while (!this.#stopped) {
      if (this.#parts.staysAway()) {
        await this.#sleep(null);
        continue;
      }
      const url = urls[at % urls.length] ?? '';
      at++;
      const begunMs = clock.monotonicMs();
      let askedMs: number | null = null;
      try {
        askedMs = await this.#parts.session(url);
      } catch (thrown) {
        this.#parts.failed(url, asError(thrown));
      }
      this.#backoff.sessionEnded(clock.monotonicMs() - begunMs);
      if (this.#isStopped()) return;
      if (this.#returnsAtOnce) {
        this.#returnsAtOnce = false;
        at--;
        continue;
      }
      const backoffMs = this.#backoff.nextDelayMs();
      const delayMs = askedMs ?? backoffMs;
      this.#parts.waits(url, delayMs);
      await this.#sleep(delayMs);
    }
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  /** Null: until something has changed. */
  async #sleep(delayMs: number | null): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = delayMs === null ? null : this.#parts.clock.after(delayMs, resolve);
      this.#wake = () => {
        timer?.cancel();
        resolve();
      };
    });
    this.#wake = null;
  }
}
