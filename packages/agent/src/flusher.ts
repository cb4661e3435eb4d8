/**
 * The agent's own upstream flushes: marks are cleared only for what a completed upstream flush covers
 * (promise CLEAR), and a guest that never flushes must not keep them for ever.
 *
 * Flushes when the tracker wants to cool an extent, and when the group has been idle for a while; then it
 * also cools what can be cooled, so that a crash after an idle time resyncs next to nothing.
 */
import { type Tracker } from '@rephub/bitmap';
import { flushDevice } from '@rephub/nbd';
import { type Clock, type Logger, type Timer } from '@rephub/platform';
import { type FlushProof } from './flush-proof.js';
import { type GuestVolume } from './guest-volume.js';
import { type Mirror } from './mirror.js';

export interface FlusherParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly volumes: readonly GuestVolume[];
  readonly tracker: Tracker;
  readonly proof: FlushProof;
  readonly mirror: Mirror;
  /** No guest request for so long: flush and cool. */
  readonly idleMs: number;
}

export class Flusher {
  readonly #parts: FlusherParts;
  #flushing: Promise<void> | null = null;
  #again = false;
  #timer: Timer | null = null;
  #seenRequests = -1;
  #cooledAt = -1;

  constructor(parts: FlusherParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#timer = this.#parts.clock.after(this.#parts.idleMs, () => {
      this.start();
      void this.#whenIdle();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Flushes every volume that has something unflushed; one round at a time, another when asked meanwhile. */
  want(): void {
    if (this.#flushing !== null) {
      this.#again = true;
      return;
    }
    this.#flushing = this.flushAll().then(
      () => {
        this.#flushed();
      },
      (fault: unknown) => {
        // Nothing is proven; the marks stay and the next wish tries again.
        this.#parts.log.warn('upstream-flush-failed', { fault: String(fault) });
        this.#again = false;
        this.#flushed();
      },
    );
  }

  #flushed(): void {
    this.#flushing = null;
    if (!this.#again) return;
    this.#again = false;
    this.want();
  }

  /** Flushes now; throws the DeviceError of a volume that could not. */
  async flushAll(): Promise<void> {
    const { volumes, proof, tracker } = this.#parts;
    for (const volume of volumes) {
      if (!proof.hasUnflushed(volume.index) || !volume.abilities.flush) continue;
      const covered = proof.coveredBy(volume.index);
      await flushDevice(volume.upstream);
      proof.flushed(volume.index, covered);
    }
    tracker.upstreamFlushed(proof.proven());
  }

  /** A span's end is durable: what it proved is taken off the disk's marks now, or a crash would copy it all again (NOFULL). */
  async settle(): Promise<void> {
    const { tracker, log } = this.#parts;
    try {
      await this.flushAll();
      await tracker.coolIdle();
    } catch (fault) {
      log.warn('marks-not-cleared', { fault: String(fault) });
    }
  }

  async #whenIdle(): Promise<void> {
    const { volumes, mirror } = this.#parts;
    let requests = 0;
    for (const volume of volumes) requests += volume.guestRequests;
    const idle = requests === this.#seenRequests;
    this.#seenRequests = requests;
    const settled = mirror.state === 'off' || (mirror.state === 'streaming' && mirror.window.count === 0);
    if (!idle || !settled || this.#cooledAt === requests) return;
    this.#cooledAt = requests;
    await this.settle();
  }
}
