/**
 * The agent's own upstream flushes: marks are cleared only for what a completed upstream flush covers
 * (promise CLEAR), and a guest that never flushes must not keep them for ever.
 *
 * Flushes when the tracker wants to cool an extent, and when the group has been idle for a while; then it
 * also cools what can be cooled, so that a crash after an idle time resyncs next to nothing.
 */
import { type Tracker } from '@rephub/bitmap';
import { flushDevice } from '@rephub/nbd';
import { asError, type Clock, type Logger, sleep, type Timer } from '@rephub/platform';
import { type FlushProof } from '../flushes/flush-proof.js';
import { type GuestVolume } from './guest-volume.js';
import { type Mirror } from '../mirror/mirror.js';

/** For so long cooling waits for flushes. */
const SETTLE_MS = 10_000;

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
  /** Volumes that are being flushed; true: once more, for what was written meanwhile. */
  readonly #flushing = new Map<GuestVolume, boolean>();
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

  /** Flushes every volume that has something unflushed, each by itself: one that is away, or fails, keeps no other waiting. */
  want(): void {
    const { tracker, volumes } = this.#parts;
    for (const volume of volumes) if (this.#canFlush(volume)) void this.#flush(volume);
    if (this.#flushing.size === 0) tracker.flushEnded();
  }

  /** One round at a time, another when asked meanwhile. Never rejects. */
  async #flush(volume: GuestVolume): Promise<void> {
    if (this.#flushing.has(volume)) {
      this.#flushing.set(volume, true);
      return;
    }
    const { log, tracker } = this.#parts;
    let isWanted = true;
    while (isWanted) {
      this.#flushing.set(volume, false);
      try {
        await this.#flushNow(volume);
        isWanted = this.#flushing.get(volume) === true && this.#canFlush(volume);
      } catch (fault) {
        // Nothing is proven; the marks stay and the next wish tries again.
        log.warn('upstream-flush-failed', { volume: volume.name, fault: String(fault) });
        isWanted = false;
      }
    }
    this.#flushing.delete(volume);
    tracker.flushEnded();
  }

  #canFlush(volume: GuestVolume): boolean {
    return volume.abilities.flush && this.#parts.proof.hasUnflushed(volume.index);
  }

  async #flushNow(volume: GuestVolume): Promise<void> {
    const { proof, tracker } = this.#parts;
    const covered = proof.coveredBy(volume.index);
    await flushDevice(volume.upstream);
    proof.flushed(volume.index, covered);
    tracker.upstreamFlushed(volume.index, covered);
  }

  /** Flushes now; throws the DeviceError of a volume that could not, when the others have. */
  async flushAll(): Promise<void> {
    const { volumes, tracker } = this.#parts;
    const flushes = volumes.filter((volume) => this.#canFlush(volume)).map((volume) => this.#flushNow(volume));
    const outcomes = await Promise.allSettled(flushes);
    tracker.flushEnded();
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw asError(outcome.reason);
  }

  /** A span's end is durable: what it proved is taken off the disk's marks now, or a crash would copy it all again (NOFULL). */
  async settle(): Promise<void> {
    const { clock, tracker, log } = this.#parts;
    const told = (fault: unknown): void => {
      log.warn('marks-not-cleared', { fault: String(fault) });
    };
    // What one volume's upstream does not flush, or not now, keeps nothing of the others'.
    await Promise.race([this.flushAll().catch(told), sleep(clock, SETTLE_MS)]);
    await tracker.coolIdle().catch(told);
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
