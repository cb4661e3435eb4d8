/**
 * Who reads upstream in the background takes turns here: copies, comparisons, verifications of all volumes of a group. How many
 * read at once, and how long they rest, is courtesy's word (courtesy.ts).
 *
 * Always holds: who waits is let in in the order of the calls.
 * Must not know: what is read, guests.
 */
import { type Clock, type Timer } from '@rephub/platform';
import { type Courtesy } from './courtesy.js';

interface Waiting {
  readonly bytes: number;
  readonly letIn: () => void;
}

export class BackgroundReads {
  readonly #clock: Clock;
  readonly #courtesy: Courtesy;
  readonly #waiting: Waiting[] = [];
  #timer: Timer | null = null;

  constructor(clock: Clock, courtesy: Courtesy) {
    this.#clock = clock;
    this.#courtesy = courtesy;
  }

  /** How large the next piece should be. */
  get pieceBytes(): number {
    return this.#courtesy.pieceBytes(this.#clock.monotonicMs());
  }

  /** Runs `work`, which reads so many bytes, when they may be read. */
  async run<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    await this.#turn(bytes);
    const begunMs = this.#clock.monotonicMs();
    try {
      return await work();
    } finally {
      const nowMs = this.#clock.monotonicMs();
      this.#courtesy.ended(nowMs, bytes, nowMs - begunMs);
      this.#serve();
    }
  }

  async #turn(bytes: number): Promise<void> {
    if (this.#waiting.length === 0 && this.#admit(bytes)) return;
    await new Promise<void>((resolve) => {
      this.#waiting.push({ bytes, letIn: resolve });
      this.#arm();
    });
  }

  #admit(bytes: number): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#courtesy.admits(nowMs, bytes)) return false;
    this.#courtesy.began(nowMs, bytes);
    return true;
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (!this.#admit(next.bytes)) break;
      this.#waiting.shift();
      next.letIn();
    }
    if (this.#waiting.length > 0) this.#arm();
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(this.#courtesy.askAgainInMs(this.#clock.monotonicMs()), () => {
      this.#timer = null;
      this.#serve();
    });
  }
}
