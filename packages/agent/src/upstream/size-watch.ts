/**
 * Notices that a volume's upstream has become larger while it is in use: a file is looked at, an NBD server is asked on
 * a short connection of its own (INFO), where it says that several connections are fine (CAN_MULTI_CONN); any other is
 * seen when connections are opened anew.
 *
 * Always holds: what is offered is what every connection there is can do; an upstream that cannot be asked is asked less
 * and less often; one that has become smaller is told, and once it is as large as before, what it had lost is read again.
 * Must not know: what growing takes.
 */
import { asError, type Timer } from '@rephub/platform';
import { type LanePool } from './lane-pool.js';
import { type Recovery } from './recovery.js';
import { type UpstreamParts } from './upstream-parts.js';

const LOOK_MS = 10_000;
/** An upstream that cannot be asked is asked again after so many times as long, at most. */
const MOST_PATIENCE = 64;
const SECTOR_BYTES = 512;

export class SizeWatch {
  readonly #parts: UpstreamParts;
  readonly #pool: LanePool;
  readonly #recovery: Recovery;
  readonly #known: () => number;
  #timer: Timer | null = null;
  #stopped = false;
  /** Connections were opened anew for this size, and did not have it then. */
  #triedBytes = 0;
  /** What was seen last, when that is less than what counts. */
  #shrunkBytes: number | null = null;
  /** The least that was seen since it shrank: what is beyond may be something else when it is back. */
  #leastBytes = Infinity;
  #patience = 1;
  #looksLeft = 1;

  /** `known` is the size that counts. */
  constructor(parts: UpstreamParts, pool: LanePool, recovery: Recovery, known: () => number) {
    this.#parts = parts;
    this.#pool = pool;
    this.#recovery = recovery;
    this.#known = known;
  }

  /** What is wrong with what there is now; null when it is as large as it counts. */
  get shrunkReason(): string | null {
    const seen = this.#shrunkBytes;
    return seen === null ? null : `it has ${seen} bytes now, not ${this.#known()}: what is beyond cannot be read`;
  }

  start(): void {
    this.#timer = this.#parts.clock.after(LOOK_MS, () => {
      void this.#tick();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** One that was opened anew has so many bytes; it may be refused for that. */
  saw(sizeBytes: number): void {
    if (sizeBytes < this.#known()) this.#leastBytes = Math.min(this.#leastBytes, sizeBytes);
  }

  /** All connections were opened anew, and are as they should be. */
  reopened(): void {
    this.#whole(this.#known());
    this.compare();
  }

  /** What the connections can do, against what is known. */
  compare(): void {
    const offered = this.#pool.smallestBytes;
    if (offered > this.#known() && offered % SECTOR_BYTES === 0) this.#parts.hooks.grown(offered);
  }

  async #tick(): Promise<void> {
    const { log, name } = this.#parts;
    if (this.#recovery.isUp && --this.#looksLeft <= 0) {
      try {
        await this.#look();
        this.#patience = 1;
      } catch (thrown) {
        this.#patience = Math.min(MOST_PATIENCE, 2 * this.#patience);
        log.debug('upstream-size-not-told', { volume: name, reason: asError(thrown).message });
      }
      this.#looksLeft = this.#patience;
    }
    if (!this.#stopped) this.start();
  }

  async #look(): Promise<void> {
    const { log, name } = this.#parts;
    const pool = this.#pool;
    const seen = await this.#sizeNow();
    if (this.#stopped || !this.#recovery.isUp) return;
    const known = this.#known();
    if (seen !== null) {
      if (seen < known && seen !== this.#shrunkBytes) {
        log.error('upstream-shrunk', { volume: name, sizeBytes: known, nowBytes: seen });
      }
      this.#shrunkBytes = seen < known ? seen : null;
      this.saw(seen);
      if (seen >= known) this.#whole(known);
    }
    if (seen !== null && seen > pool.smallestBytes && seen !== this.#triedBytes && seen % SECTOR_BYTES === 0) {
      this.#triedBytes = seen;
      this.#recovery.reopen(`it has grown to ${seen} bytes`);
    } else {
      this.compare();
    }
  }

  /** It is as large as it counts, perhaps again. */
  #whole(known: number): void {
    const { hooks, log, name } = this.#parts;
    const least = this.#leastBytes;
    this.#leastBytes = Infinity;
    this.#shrunkBytes = null;
    if (least >= known) return;
    log.warn('upstream-whole-again', { volume: name, sizeBytes: known, hadBytes: least });
    hooks.contentUnknown(least, known - least);
  }

  /** What is there now; null when nobody can be asked. */
  async #sizeNow(): Promise<number | null> {
    const { askSize } = this.#parts;
    if (this.#pool.canGrow) return await this.#pool.grow();
    return askSize !== null && this.#pool.isShared ? await askSize() : null;
  }
}
