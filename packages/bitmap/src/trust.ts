/**
 * Whether marks on the disk may be believed. The first file that fails ends that for this process; `distrust` ends it, durably,
 * for the next one too, and from then on writes need no mark.
 *
 * Always holds:
 *  - there is one failure, the first, and nothing is written to the marks' files after it;
 *  - when `distrust` has resolved the next start trusts nothing, whatever becomes of this process (SUPERSET): either the
 *    identity says so or hot.log is gone, durably.
 * Must not know: what waits for marks, why a file failed.
 */
import { asError, Fault, type FileSystem, StorageFault } from '@rephub/platform';
import { HOT_LOG_NAME } from './hot-log.js';
import type { IdentityFile } from './identity-file.js';
import type { Marks } from './marks.js';

const LONGEST_REASON = 500;

export interface TrustParts {
  readonly files: FileSystem;
  readonly directory: string;
  readonly identity: Pick<IdentityFile, 'save'>;
  readonly marks: Pick<Marks, 'isDistrusted' | 'distrust'>;
  /** Nothing is written any more; what waits, and what comes, is turned away with this. */
  readonly stop: (fault: Fault) => void;
  /** Marks count for nothing any more: what waits for one passes. Called before `stop`. */
  readonly letPass: () => void;
  /** The files have failed. Called once, after `stop`. */
  readonly failed: (fault: Fault) => void;
}

export class Trust {
  readonly #parts: TrustParts;
  #failure: Fault | null = null;

  constructor(parts: TrustParts) {
    this.#parts = parts;
  }

  /** Why no mark can be made durable any more; null: it can, or none is needed. */
  get failure(): Fault | null {
    return this.#failure;
  }

  /** The files take marks, and marks are needed. */
  get isKept(): boolean {
    return this.#failure === null && !this.#parts.marks.isDistrusted;
  }

  /** A file has failed. */
  fail(error: Error): void {
    if (!this.isKept) return;
    const fault =
      error instanceof Fault
        ? error
        : new StorageFault('state-failed', `state files failed: ${error.message}`, { cause: error });
    this.#failure = fault;
    this.#parts.stop(fault);
    // Said at once, as well as it can be: what the failed sync left in the kernel's cache must not be believed by the
    // next process, even if this one dies before `distrust`.
    this.#parts.identity.save(disowned(`state files failed: ${fault.message}`)).catch(() => undefined);
    this.#parts.failed(fault);
  }

  /** Throws a StorageFault when it cannot be stored by any means; may be tried again. */
  async distrust(reason: string): Promise<void> {
    if (this.#parts.marks.isDistrusted) return;
    try {
      await this.#parts.identity.save(disowned(reason));
    } catch (thrown) {
      await this.#removeLog(asError(thrown));
    }
    this.#parts.marks.distrust();
    this.#parts.letPass();
    this.#parts.stop(new StorageFault('untrusted', `marks are no longer kept: ${reason}`));
  }

  /** The tracker is closed: nothing more is written, and that is no failure of the files. */
  close(): void {
    const closed = new StorageFault('closed', 'the tracker has been closed');
    this.#failure ??= closed;
    this.#parts.stop(closed);
  }

  /** The identity cannot be written: without hot.log the next start trusts nothing either. */
  async #removeLog(why: Error): Promise<void> {
    const { directory, files } = this.#parts;
    try {
      await files.remove(`${directory}/${HOT_LOG_NAME}`);
      await files.syncDirectory(directory);
    } catch (thrown) {
      const { message } = asError(thrown);
      throw new StorageFault(
        'cannot-distrust',
        `cannot store that marks are lost: ${why.message}; nor remove hot.log: ${message}`,
        { cause: thrown },
      );
    }
  }
}

function disowned(reason: string): { trusted: false; reason: string; clean: false } {
  return { trusted: false, reason: reason.slice(0, LONGEST_REASON), clean: false };
}
