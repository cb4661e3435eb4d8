/**
 * Watches that a connection's requests are answered in time. What makes something stable, a flush or a write with FUA, may
 * take minutes on a slow disk with a large cache, and a server may do nothing else meanwhile: as long as the server answers
 * somebody who connects anew, it is waited for, twenty times as long. Neither Linux's NBD client nor QEMU's gives up a flush.
 *
 * Always holds: a connection whose server is gone, or hangs, is given up a moment after the limit, whatever was asked of it.
 * Must not know: sockets, what becomes of requests.
 */
import { type Clock, type Timer } from '@rephub/platform';
import { type BlockRequest, Command, CommandFlag } from '../block-device.js';
import { type InFlight } from './in-flight.js';

export interface RequestWatchParts {
  readonly clock: Clock;
  readonly limitMs: number;
  readonly inFlight: InFlight;
  /** Does the server answer who connects now? Never rejects. */
  readonly isThere: (timeoutMs: number) => Promise<boolean>;
  readonly late: (why: string) => void;
}

/** The limit is watched in so many steps: a stall is noticed at most this part of it late. */
const STEPS = 4;
/** What makes something stable has so many limits. */
const SYNC_LIMITS = 20;
/** To answer who connects takes no disk. */
const LONGEST_ASK_MS = 5_000;

export class RequestWatch {
  readonly #parts: RequestWatchParts;
  #timer: Timer | null = null;
  /** What was in flight at the last steps, oldest first. */
  readonly #seen: number[] = [];
  /** While something stable is waited for beyond the limit: since when, and until when the server need not be asked. */
  #patience: { readonly sinceMs: number; untilMs: number } | null = null;
  #isAsking = false;
  #isStopped = false;

  constructor(parts: RequestWatchParts) {
    this.#parts = parts;
  }

  /** Something is in flight. */
  begin(): void {
    if (this.#timer === null && !this.#isAsking && !this.#isStopped) this.#step();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #step(): void {
    const { clock, inFlight, limitMs } = this.#parts;
    this.#timer = null;
    if (this.#isStopped) return;
    if (inFlight.count === 0) {
      this.#forget();
      return;
    }
    this.#seen.push(inFlight.nextSequence);
    this.#timer = clock.after(limitMs / STEPS, () => {
      this.#timer = null;
      if (this.#seen.length >= STEPS && this.#isLate(this.#seen.shift() ?? 0)) return;
      this.#step();
    });
  }

  /** True: somebody else goes on, or nobody does. */
  #isLate(sequence: number): boolean {
    const { clock, inFlight, late, limitMs } = this.#parts;
    if (!inFlight.hasOlderThan(sequence)) {
      this.#patience = null;
      return false;
    }
    const oldest = inFlight.oldest();
    if (oldest === null || !isSync(oldest)) {
      // What waited behind it has the whole of its time now.
      if (this.#patience === null) late(`a request was not answered within ${limitMs} ms`);
      this.#forget();
      return false;
    }
    const nowMs = clock.monotonicMs();
    const patience = (this.#patience ??= { sinceMs: nowMs, untilMs: nowMs });
    if (nowMs - patience.sinceMs >= (SYNC_LIMITS - 1) * limitMs) {
      late(`a flush was not answered within ${SYNC_LIMITS * limitMs} ms`);
      return true;
    }
    if (nowMs < patience.untilMs) return false;
    patience.untilMs = nowMs + limitMs;
    void this.#ask(sequence);
    return true;
  }

  async #ask(sequence: number): Promise<void> {
    const { inFlight, isThere, late, limitMs } = this.#parts;
    this.#isAsking = true;
    const isAlive = await isThere(Math.min(limitMs, LONGEST_ASK_MS));
    this.#isAsking = false;
    if (this.#isStopped) return;
    if (!isAlive && inFlight.hasOlderThan(sequence)) {
      late(`a flush was not answered within ${limitMs} ms, nor somebody who connected anew`);
    }
    this.#step();
  }

  #forget(): void {
    this.#seen.length = 0;
    this.#patience = null;
  }
}

function isSync({ command, flags }: BlockRequest): boolean {
  return command === Command.Flush || (command !== Command.Read && (flags & CommandFlag.Fua) !== 0);
}
