/**
 * Records that nobody waits for leave together: each send wakes the hub, which writes, syncs and acknowledges what it got,
 * so that a record at a time costs both sides several times what the record itself does.
 *
 * Always holds: what was added leaves within `GATHER_MS`, or at once when it is much or when somebody waits.
 * Must not know: what is sent.
 */
import { type Clock, type Timer } from '@rephub/platform';

/** By so much a record may come later to the hub; it is part of the RPO. */
export const GATHER_MS = 1;
/** So much is worth a send of its own. */
export const GATHER_BYTES = 64 * 1024;

export class Gathering {
  readonly #clock: Clock;
  readonly #send: () => void;
  #bytes = 0;
  #timer: Timer | null = null;

  constructor(clock: Clock, send: () => void) {
    this.#clock = clock;
    this.#send = send;
  }

  /** One more to be sent, of so many bytes. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes >= GATHER_BYTES) this.leave();
    else this.#timer ??= this.#clock.after(GATHER_MS, this.#due);
  }

  /** Somebody waits: all that was added leaves now. */
  leave(): void {
    this.#bytes = 0;
    this.#send();
  }

  readonly #due = (): void => {
    this.#timer = null;
    if (this.#bytes > 0) this.leave();
  };
}
