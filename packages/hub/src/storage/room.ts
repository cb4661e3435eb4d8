/**
 * Room on the disk that holds a group, and the reserve of it: what protection keeps for itself. Looks at the disk when
 * something is written, and when asked; never by a timer.
 *
 * Always holds: a disk that cannot be asked counts as one with room (writes will tell).
 * Must not know: journals, spans, tests.
 */
import { asError, type Clock, type FileSystem, type Logger, StorageFault } from '@rephub/platform';

/** While something is written, the disk is looked at this often. */
const LOOK_EVERY_MS = 250;
const DEFAULT_RESERVE_BYTES = 1024 ** 3;
const DEFAULT_RESERVE_SHARE = 0.05;

export interface RoomOptions {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly log: Logger;
  /** Any path on that disk. */
  readonly path: string;
  /** 5 % of the disk or 1 GiB, whichever is less, when left out. */
  readonly reserveBytes: number | undefined;
  /** After each look. */
  readonly looked: () => void;
}

export class Room {
  readonly #options: RoomOptions;
  #freeBytes = Infinity;
  #totalBytes = Infinity;
  #lookedAtMs = -Infinity;
  #looking: Promise<void> | null = null;
  #toldTrouble = false;

  constructor(options: RoomOptions) {
    this.#options = options;
  }

  /** As of the last look; Infinity when nothing is known. */
  get freeBytes(): number {
    return this.#freeBytes;
  }

  get reserveBytes(): number {
    const share = Math.ceil(this.#totalBytes * DEFAULT_RESERVE_SHARE);
    return this.#options.reserveBytes ?? Math.min(DEFAULT_RESERVE_BYTES, share);
  }

  /** Less is free than the reserve: what is not protection ends. */
  get isLow(): boolean {
    return this.#freeBytes < this.reserveBytes;
  }

  /** How much less is free than this and the reserve; 0 when both fit. */
  shortFor(bytes: number): number {
    return Math.max(0, bytes + this.reserveBytes - this.#freeBytes);
  }

  /**
   * The journal leaves half of the reserve to the base images: they must be able to grow for the journal to shrink. Throws a
   * StorageFault `disk-full`, retryable.
   */
  checkJournalGrowth(bytes: number): void {
    if (this.#freeBytes - bytes >= this.reserveBytes / 2) return;
    throw new StorageFault('disk-full', `the journal may not grow by ${bytes} bytes: ${this.said}`, {
      retryable: true,
    });
  }

  /** For people. */
  get said(): string {
    return `${this.#freeBytes} bytes are free, ${this.reserveBytes} are kept for protection`;
  }

  /** Something was written: looks again when the last look is old. */
  wrote(): void {
    if (this.#options.clock.monotonicMs() - this.#lookedAtMs >= LOOK_EVERY_MS) void this.look();
  }

  /** Looks now. Never throws. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { clock, files, log, path, looked } = this.#options;
    this.#lookedAtMs = clock.monotonicMs();
    try {
      const { freeBytes, totalBytes } = await files.room(path);
      this.#freeBytes = freeBytes;
      this.#totalBytes = totalBytes;
      this.#toldTrouble = false;
    } catch (error) {
      if (!this.#toldTrouble) log.warn('room-unknown', { path, message: asError(error).message });
      this.#toldTrouble = true;
      this.#freeBytes = Infinity;
    }
    try {
      looked();
    } catch (error) {
      log.error('internal-error', { path, message: `looking at the room: ${asError(error).message}` });
    }
  }
}
