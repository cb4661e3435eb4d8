/**
 * Keeps others from a disk that is a file, for as long as anything here has it open: a VM that opens it beside its agent
 * would write what no replica ever gets, and both would spoil its file system.
 *
 * Always holds: the claim is taken before anything is written, and given back after the last close.
 * Must not know: how files are locked.
 */
import { type FileLock, type FileSystem, type Logger, StorageFault } from '@rephub/platform';

export class DiskClaim {
  readonly #files: FileSystem;
  readonly #path: string;
  readonly #log: Logger;
  #held: Promise<FileLock | null> | null = null;
  #users = 0;

  constructor(files: FileSystem, path: string, log: Logger) {
    this.#files = files;
    this.#path = path;
    this.#log = log;
  }

  /** Throws a StorageFault `upstream-in-use`, which time may mend, while somebody else writes the file. */
  async take(): Promise<FileLock> {
    this.#users += 1;
    let released: Promise<void> | null = null;
    const mine = { release: () => (released ??= this.#release()) };
    try {
      await (this.#held ??= this.#claim());
    } catch (fault) {
      await mine.release();
      throw fault;
    }
    return mine;
  }

  async #claim(): Promise<FileLock | null> {
    const claim = (await this.#files.claim?.(this.#path)) ?? 'no-locks';
    if (claim === 'in-use') {
      throw new StorageFault(
        'upstream-in-use',
        `${this.#path} is in use: another agent, a VM or a tool writes it, or lets nobody write (fuser -v ${this.#path})`,
        { retryable: true },
      );
    }
    if (claim !== 'no-locks') return claim;
    this.#log.info('upstream-unlocked', { path: this.#path, reason: 'there are no locks where it lies' });
    return null;
  }

  async #release(): Promise<void> {
    this.#users -= 1;
    if (this.#users > 0) return;
    const held = this.#held;
    this.#held = null;
    await (await held?.catch(() => null))?.release();
  }
}
