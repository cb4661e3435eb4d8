/**
 * Reads of an open file past the page cache (O_DIRECT), for what is read once. What is not in the cache yet would have to
 * be given pages there, be read ahead in small steps and be copied out again: several times the processor time.
 *
 * Always holds: the bytes are those that a read through the cache would give, for the kernel writes back what is dirty
 * there first. Where it cannot be done the first read finds out, and says so.
 */
import { close, constants, open, read } from 'node:fs';
import { AlignedPool, BLOCK_BYTES, hasAlignedMemory } from './aligned-memory.js';
import { errnoName } from './file-faults.js';

/** Asked of the disk at once. */
const STEP_BYTES = 256 * 1024;
/** A step may begin and end within a block. */
const STAGING = new AlignedPool(STEP_BYTES + 2 * BLOCK_BYTES, 8);

export class DirectReads {
  readonly #fileFd: number;
  #opened: Promise<number | null> | null = null;
  #isRefused = false;

  /** Of the file that is open on this descriptor. */
  constructor(fileFd: number) {
    this.#fileFd = fileFd;
  }

  /** As OpenFile.read; null, and nothing read, where it cannot be done. Rejects with the system's error. */
  async read(buffer: Uint8Array, position: number): Promise<number | null> {
    const fd = await (this.#opened ??= openDirect(this.#fileFd));
    if (fd === null || this.#isRefused) return null;
    const staging = await STAGING.borrow();
    try {
      let done = 0;
      while (done < buffer.length) {
        const at = position + done;
        const head = at % BLOCK_BYTES;
        const wanted = Math.min(STEP_BYTES, buffer.length - done);
        const whole = Math.ceil((head + wanted) / BLOCK_BYTES) * BLOCK_BYTES;
        const got = Math.min(wanted, (await readBlocks(fd, staging, whole, at - head)) - head);
        if (got <= 0) break;
        buffer.set(staging.subarray(head, head + got), done);
        done += got;
      }
      return done;
    } catch (error) {
      // Opened, and not to be read so after all: some file systems say it only now, or want larger blocks than ours.
      if (errnoName(error) !== 'EINVAL') throw error;
      this.#isRefused = true;
      return null;
    } finally {
      STAGING.giveBack(staging);
    }
  }

  /** Nothing may be under way. */
  async close(): Promise<void> {
    const fd = await this.#opened;
    this.#opened = null;
    if (fd === null) return;
    await new Promise<void>((resolve) => {
      close(fd, () => {
        resolve();
      });
    });
  }
}

/** The same file again, whatever its name is by now; null where that cannot be had. */
function openDirect(fileFd: number): Promise<number | null> {
  if (!hasAlignedMemory()) return Promise.resolve(null);
  return new Promise((resolve) => {
    open(`/proc/self/fd/${fileFd}`, constants.O_RDONLY | constants.O_DIRECT, (error, fd) => {
      resolve(error === null ? fd : null);
    });
  });
}

function readBlocks(fd: number, into: Buffer, bytes: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const next = (): void => {
      read(fd, into, 0, bytes, position, (error, count) => {
        if (error === null) resolve(count);
        else if (errnoName(error) === 'EINTR') next();
        else reject(error);
      });
    };
    next();
  });
}
