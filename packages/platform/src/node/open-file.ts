/**
 * One open file on a raw descriptor: positioned reads and writes through the thread pool, holes through
 * the system calls that Node lacks, each with a way to do without.
 *
 * Always holds:
 *  - after a failed `sync` every later `sync` and `write` throws `sync-failed`: the kernel has dropped
 *    pages it could not write, so whatever comes later proves nothing;
 *  - `close` waits for calls under way, so that no call lands on a descriptor given to another file.
 * Must not know: which files exist, locks.
 */
import { close, type BigIntStats, fdatasync, fstat, ftruncate, readFileSync, read, write, writev } from 'node:fs';
import { StorageFault } from '../errors.js';
import type { FileStatus, OpenFile } from '../files.js';
import { DirectReads } from './direct-reads.js';
import { errnoName, storageFault } from './file-faults.js';
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  type SystemCalls,
} from './system-calls.js';

/** What is written or read at once where a range is zeroed or filled by hand. */
const ZEROES_BYTES = 256 * 1024;
const ZEROES = Buffer.alloc(ZEROES_BYTES);
/** Less than this is read through the page cache, however often. */
const WORTH_BYTES = 32 * 1024;
/** The kernel takes no more pieces in one call. */
const MOST_PIECES = 1024;

export class NodeOpenFile implements OpenFile {
  readonly #fd: number;
  readonly #path: string;
  readonly #calls: SystemCalls | null;
  #direct: DirectReads | null = null;
  #syncFailure: StorageFault | null = null;
  #underWay = 0;
  #closing: Promise<void> | null = null;
  #idle: (() => void) | null = null;

  constructor(fd: number, path: string, calls: SystemCalls | null) {
    this.#fd = fd;
    this.#path = path;
    this.#calls = calls;
  }

  /** Why nothing may be written any more; null while it may. */
  get syncFailure(): StorageFault | null {
    return this.#syncFailure;
  }

  read(buffer: Uint8Array, position: number, once = false): Promise<number> {
    if (!once || buffer.length < WORTH_BYTES || this.#calls === null) {
      return this.#run('read', () => this.#readAll(buffer, position));
    }
    this.#direct ??= new DirectReads(this.#fd);
    const direct = this.#direct;
    return this.#run('read', async () => {
      return (await direct.read(buffer, position)) ?? (await this.#readAll(buffer, position));
    });
  }

  write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    if (this.#syncFailure !== null) return Promise.reject(this.#syncFailure);
    return this.#run('write', () => this.#writeAll(chunks, position));
  }

  sync(): Promise<void> {
    if (this.#syncFailure !== null) return Promise.reject(this.#syncFailure);
    return this.#run('sync', async () => {
      try {
        await this.#fdatasync();
      } catch (error) {
        this.#syncFailure ??= new StorageFault(
          'sync-failed',
          `cannot sync ${this.#path}: ${String(error)}; what was written since the last good sync may be lost`,
          { retryable: false, cause: error },
        );
      }
      // Another sync of this file may have failed meanwhile and taken our pages with it.
      if (this.#syncFailure !== null) throw this.#syncFailure;
    });
  }

  status(): Promise<FileStatus> {
    return this.#run('look at', () => this.#status());
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#run(
      'truncate',
      () => new Promise((resolve, reject) => ftruncate(this.#fd, sizeBytes, settle(resolve, reject))),
    );
  }

  allocate(position: number, lengthBytes: number): Promise<void> {
    if (lengthBytes === 0) return Promise.resolve();
    return this.#run('allocate space in', async () => {
      const status = await this.#status();
      if (status.kind === 'block') return;
      if (this.#calls !== null) {
        try {
          await this.#calls.fallocate(this.#fd, 0, position, lengthBytes);
          return;
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
      }
      await this.#fillByHand(position, lengthBytes, status.sizeBytes);
    });
  }

  punch(position: number, lengthBytes: number): Promise<void> {
    return this.#run('punch a hole in', async () => {
      const { sizeBytes } = await this.#status();
      const end = Math.min(position + lengthBytes, sizeBytes);
      if (end <= position) return;
      if (this.#calls !== null) {
        try {
          await this.#calls.fallocate(this.#fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, position, end - position);
          return;
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
      }
      await this.#writeZeroes(position, end);
    });
  }

  nextData(position: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null> {
    return this.#run('look for data in', async () => {
      if (this.#calls !== null) {
        try {
          const start = await this.#calls.seek(this.#fd, position, SEEK_DATA);
          const end = await this.#calls.seek(this.#fd, start, SEEK_HOLE);
          return { position: start, lengthBytes: end - start };
        } catch (error) {
          if (errnoName(error) === 'ENXIO') return null;
          if (!isMissing(error)) throw error;
        }
      }
      const { sizeBytes } = await this.#status();
      return position < sizeBytes ? { position, lengthBytes: sizeBytes - position } : null;
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeWhenIdle();
    return this.#closing;
  }

  async #closeWhenIdle(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#direct?.close();
    await new Promise<void>((resolve, reject) => {
      close(this.#fd, (error) => {
        // A file system may report a late write error here; the descriptor is gone either way.
        if (error === null) resolve();
        else reject(storageFault('close', this.#path, error));
      });
    });
  }

  async #run<T>(action: string, call: () => Promise<T>): Promise<T> {
    if (this.#closing !== null) throw new StorageFault('closed', `cannot ${action} ${this.#path}: it has been closed`);
    this.#underWay += 1;
    try {
      return await call();
    } catch (error) {
      throw storageFault(action, this.#path, error);
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#idle?.();
    }
  }

  #readAll(buffer: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      let done = 0;
      const next = (): void => {
        read(this.#fd, buffer, done, buffer.length - done, position + done, (error, count) => {
          if (error !== null && errnoName(error) !== 'EINTR') {
            reject(error);
            return;
          }
          done += error === null ? count : 0;
          if (done === buffer.length || (error === null && count === 0)) resolve(done);
          else next();
        });
      };
      if (buffer.length === 0) resolve(0);
      else next();
    });
  }

  #writeAll(chunks: readonly Uint8Array[], position: number): Promise<void> {
    const [first] = chunks;
    if (first === undefined) return Promise.resolve();
    return chunks.length === 1 ? this.#writeOne(first, position) : this.#writeMany(chunks, position);
  }

  #writeOne(chunk: Uint8Array, position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let done = 0;
      const next = (): void => {
        write(this.#fd, chunk, done, chunk.length - done, position + done, (error, count) => {
          if (error !== null && errnoName(error) !== 'EINTR') {
            reject(error);
            return;
          }
          done += error === null ? count : 0;
          if (done === chunk.length) resolve();
          else if (error === null && count === 0) reject(new Error('nothing could be written'));
          else next();
        });
      };
      if (chunk.length === 0) resolve();
      else next();
    });
  }

  #writeMany(chunks: readonly Uint8Array[], position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let rest = chunks.filter((chunk) => chunk.length > 0);
      let at = position;
      const next = (): void => {
        if (rest.length === 0) {
          resolve();
          return;
        }
        const pieces = rest.length > MOST_PIECES ? rest.slice(0, MOST_PIECES) : rest;
        writev(this.#fd, pieces, at, (error, count) => {
          if (error !== null && errnoName(error) !== 'EINTR') {
            reject(error);
            return;
          }
          const written = error === null ? count : 0;
          if (error === null && written === 0) {
            reject(new Error('nothing could be written'));
            return;
          }
          at += written;
          rest = withoutFirst(rest, written);
          next();
        });
      };
      next();
    });
  }

  #fdatasync(): Promise<void> {
    return new Promise((resolve, reject) => fdatasync(this.#fd, settle(resolve, reject)));
  }

  async #status(): Promise<FileStatus> {
    const status = statusOf(
      await new Promise<BigIntStats>((resolve, reject) => {
        fstat(this.#fd, { bigint: true }, (error, stats) => {
          if (error === null) resolve(stats);
          else reject(error);
        });
      }),
    );
    if (status.kind !== 'block') return status;
    const sizeBytes = await this.#deviceSize();
    return { ...status, sizeBytes, allocatedBytes: sizeBytes };
  }

  #deviceSize(): Promise<number> {
    if (this.#calls !== null) return this.#calls.seek(this.#fd, 0, SEEK_END);
    return new Promise((resolve, reject) => {
      fstat(this.#fd, (error, stats) => {
        if (error === null) resolve(sizeFromSysfs(stats.rdev));
        else reject(error);
      });
    });
  }

  /** Takes room without fallocate: zeroes over zeroes, and over what is beyond the end. */
  async #fillByHand(position: number, lengthBytes: number, sizeBytes: number): Promise<void> {
    const end = position + lengthBytes;
    const insideEnd = Math.min(end, sizeBytes);
    const buffer = Buffer.allocUnsafe(Math.min(ZEROES_BYTES, Math.max(0, insideEnd - position)));
    for (let at = position; at < insideEnd; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, insideEnd - at));
      const count = await this.#readAll(part, at);
      for (let offset = 0; offset < count; offset += 4096) {
        const block = part.subarray(offset, Math.min(offset + 4096, count));
        // A block with anything in it has its room already.
        if (block.equals(ZEROES.subarray(0, block.length))) await this.#writeOne(block, at + offset);
      }
    }
    // Without holes in between: what lies before `position` stays as it is.
    await this.#writeZeroes(Math.max(position, sizeBytes), end);
  }

  async #writeZeroes(position: number, end: number): Promise<void> {
    for (let at = position; at < end; at += ZEROES_BYTES) {
      await this.#writeOne(ZEROES.subarray(0, Math.min(ZEROES_BYTES, end - at)), at);
    }
  }
}

/** Node's stat result in our terms; a block device's size is not in it. */
export function statusOf(stats: BigIntStats): FileStatus {
  return {
    kind: stats.isFile() ? 'file' : stats.isDirectory() ? 'directory' : stats.isBlockDevice() ? 'block' : 'other',
    sizeBytes: Number(stats.size),
    allocatedBytes: Number(stats.blocks) * 512,
    identity: `${stats.dev}:${stats.ino}`,
    // Not mtime, which copying and restoring tools set back.
    changedUnixMs: Number(stats.ctimeNs) / 1e6,
  };
}

/** The size of a block device by its number, from /sys; for where lseek cannot be had. */
export function sizeFromSysfs(device: number): number {
  const major = ((device >> 8) & 0xfff) | 0;
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00);
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'latin1')) * 512;
}

function withoutFirst(chunks: Uint8Array[], countBytes: number): Uint8Array[] {
  let left = countBytes;
  let index = 0;
  for (const chunk of chunks) {
    if (left < chunk.length) break;
    left -= chunk.length;
    index += 1;
  }
  const rest = index === 0 ? chunks : chunks.slice(index);
  const [first] = rest;
  if (left > 0 && first !== undefined) rest[0] = first.subarray(left);
  return rest;
}

/** The kernel or the file system does not know this call. */
function isMissing(error: unknown): boolean {
  return ['EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'ENODEV', 'ESPIPE'].includes(errnoName(error));
}

function settle(resolve: () => void, reject: (error: Error) => void): (error: Error | null) => void {
  return (error) => {
    if (error === null) resolve();
    else reject(error);
  };
}
