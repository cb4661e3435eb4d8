/**
 * An open file whose writes go past the page cache (O_DIRECT): for files that are only appended to, in
 * large writes, and synced often. Writing back cached pages costs several times the processor time, and on
 * some machines much of the disk's speed. Reading and all else goes the usual way, on a descriptor of its own.
 *
 * Always holds: blocks that a write covers only in part keep what they held before the write's first byte;
 * behind its last byte the block reads as zeroes. One write at a time.
 */
import { close, write } from 'node:fs';
import { CorruptionFault } from '../errors.js';
import type { FileStatus, OpenFile } from '../files.js';
import { InTurn } from '../in-turn.js';
import { AlignedPool, BLOCK_BYTES } from './aligned-memory.js';
import { errnoName, storageFault } from './file-faults.js';
import type { NodeOpenFile } from './open-file.js';

/** Written at once, while more than a buffer's worth is left. */
const PIECE_BYTES = 1024 * 1024;
/** Of one staging buffer: what is best written at once, and room for a rest that is not worth a write of its own. */
const STAGED_BYTES = PIECE_BYTES + 64 * 1024;
const STAGING = new AlignedPool(STAGED_BYTES, 4);

export class PastCacheFile implements OpenFile {
  readonly #file: NodeOpenFile;
  readonly #fd: number;
  readonly #path: string;
  /** What the last write left in its last block, and where that block begins; -1 when nothing is known. */
  readonly #lastBlock = Buffer.alloc(BLOCK_BYTES);
  #lastBlockAt = -1;
  readonly #writes = new InTurn();

  /** `fd` is open for direct writing of the same file. */
  constructor(file: NodeOpenFile, fd: number, path: string) {
    this.#file = file;
    this.#fd = fd;
    this.#path = path;
  }

  read(buffer: Uint8Array, position: number, once?: boolean): Promise<number> {
    return this.#file.read(buffer, position, once);
  }

  write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    return this.#writes.run(() => this.#write(chunks, position));
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  status(): Promise<FileStatus> {
    return this.#file.status();
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#lastBlockAt = -1;
    await this.#file.truncate(sizeBytes);
  }

  allocate(position: number, lengthBytes: number): Promise<void> {
    return this.#file.allocate(position, lengthBytes);
  }

  async punch(position: number, lengthBytes: number): Promise<void> {
    this.#lastBlockAt = -1;
    await this.#file.punch(position, lengthBytes);
  }

  nextData(position: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null> {
    return this.#file.nextData(position);
  }

  async close(): Promise<void> {
    await this.#writes.settled();
    await new Promise<void>((resolve) => {
      close(this.#fd, () => {
        resolve();
      });
    });
    await this.#file.close();
  }

  async #write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    const failed = this.#file.syncFailure;
    if (failed !== null) throw failed;
    const staging = await STAGING.borrow();
    try {
      await this.#writeStaged(chunks, position, staging);
    } catch (error) {
      this.#lastBlockAt = -1;
      throw error instanceof CorruptionFault ? error : storageFault('write', this.#path, error);
    } finally {
      STAGING.giveBack(staging);
    }
  }

  async #writeStaged(chunks: readonly Uint8Array[], position: number, staging: Buffer): Promise<void> {
    let blockAt = position - (position % BLOCK_BYTES);
    let filled = position - blockAt;
    if (filled > 0) await this.#headOf(blockAt, filled, staging);
    let left = 0;
    for (const chunk of chunks) left += chunk.length;
    let full = filled + left <= STAGED_BYTES ? STAGED_BYTES : PIECE_BYTES;
    for (const chunk of chunks) {
      let from = 0;
      while (from < chunk.length) {
        const step = Math.min(chunk.length - from, full - filled);
        staging.set(from === 0 && step === chunk.length ? chunk : chunk.subarray(from, from + step), filled);
        from += step;
        filled += step;
        left -= step;
        if (filled < full) continue;
        await this.#writeBlocks(staging, full, blockAt);
        blockAt += full;
        filled = 0;
        if (left <= STAGED_BYTES) full = STAGED_BYTES;
      }
    }
    if (filled === 0) {
      this.#lastBlockAt = -1;
      return;
    }
    const whole = Math.ceil(filled / BLOCK_BYTES) * BLOCK_BYTES;
    staging.fill(0, filled, whole);
    await this.#writeBlocks(staging, whole, blockAt);
    staging.copy(this.#lastBlock, 0, whole - BLOCK_BYTES, whole);
    this.#lastBlockAt = blockAt + whole - BLOCK_BYTES;
  }

  /** Puts the bytes before the write, in its first block, in place. */
  async #headOf(blockAt: number, bytes: number, staging: Buffer): Promise<void> {
    if (this.#lastBlockAt === blockAt) {
      this.#lastBlock.copy(staging, 0, 0, bytes);
      return;
    }
    const got = await this.#file.read(staging.subarray(0, bytes), blockAt);
    if (got !== bytes) {
      throw new CorruptionFault(
        'file-short',
        `${this.#path} ends at byte ${blockAt + got}, before what is written next`,
      );
    }
  }

  #writeBlocks(staging: Buffer, bytes: number, position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let done = 0;
      const next = (): void => {
        write(this.#fd, staging, done, bytes - done, position + done, (error, count) => {
          if (error !== null && errnoName(error) !== 'EINTR') {
            reject(error);
            return;
          }
          const written = error === null ? count : 0;
          // A direct write may stop short at a block's end, when the disk fills up; the next one then says why.
          done += written - (written % BLOCK_BYTES);
          if (done === bytes) resolve();
          else if (error === null && written === 0) reject(new Error('nothing could be written'));
          else next();
        });
      };
      next();
    });
  }
}
