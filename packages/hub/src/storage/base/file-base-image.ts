/**
 * A base image in a plain sparse raw file, readable without this software.
 *
 * Always holds: while it is open nobody else writes it who asks, as QEMU does: a VM that is booted from it in an emergency
 * would write into the only replica, and the next fold into the VM's disk.
 */
import {
  CorruptionFault,
  type FileLock,
  type FileSystem,
  type OpenFile,
  parentOf,
  StorageFault,
} from '@rephub/platform';
import type { BaseImage } from './base-image.js';

export class FileBaseImage implements BaseImage {
  readonly #file: OpenFile;
  readonly #claim: FileLock | null;
  #sizeBytes: number;
  /** Nothing was ever written beyond this: the rest is one hole, and needs no punching. */
  #dataEnd: number;

  private constructor(file: OpenFile, claim: FileLock | null, sizeBytes: number, dataEnd: number) {
    this.#file = file;
    this.#claim = claim;
    this.#sizeBytes = sizeBytes;
    this.#dataEnd = dataEnd;
  }

  /** Makes the file; one that is there keeps its content if it `isSeed`. Name and size are durable when this resolves. */
  static async make(files: FileSystem, path: string, sizeBytes: number, isSeed: boolean): Promise<FileBaseImage> {
    const file = await files.open(path, 'create');
    let claim: FileLock | null = null;
    try {
      claim = await claimed(files, path);
      const found = await file.status();
      // A fold that was cut short has left it, with records that may be lost since.
      if (!isSeed && found.sizeBytes > 0) await file.truncate(0);
      if (!isSeed || found.sizeBytes !== sizeBytes) await file.truncate(sizeBytes);
      await file.sync();
      await files.syncDirectory(parentOf(path));
      return new FileBaseImage(file, claim, sizeBytes, isSeed ? found.sizeBytes : 0);
    } catch (error) {
      await closed(file, claim);
      throw error;
    }
  }

  /** Opens a file that must be there; throws `base-missing`, `base-in-use`, or `base-size` unless it has one of the sizes it may have. */
  static async open(files: FileSystem, path: string, sizes: readonly number[]): Promise<FileBaseImage> {
    const status = await files.status(path);
    if (status === null) throw new CorruptionFault('base-missing', `base image ${path} is missing`);
    if (!sizes.includes(status.sizeBytes)) {
      throw new CorruptionFault(
        'base-size',
        `base image ${path} has ${status.sizeBytes} bytes, expected ${sizes.join(' or ')}`,
      );
    }
    const file = await files.open(path, 'write');
    try {
      return new FileBaseImage(file, await claimed(files, path), status.sizeBytes, status.sizeBytes);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async read(buffer: Uint8Array, offset: number, once = false): Promise<void> {
    const read = await this.#file.read(buffer, offset, once);
    if (read < buffer.length) buffer.fill(0, read);
  }

  async write(chunks: readonly Uint8Array[], offset: number): Promise<void> {
    let end = offset;
    for (const chunk of chunks) end += chunk.length;
    if (end > this.#dataEnd) this.#dataEnd = end;
    await this.#file.write(chunks, offset);
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    const end = Math.min(offset + lengthBytes, this.#dataEnd);
    if (end <= offset) return;
    const data = await this.#file.nextData(offset);
    if (data === null || data.position >= end) return;
    await this.#file.punch(data.position, end - data.position);
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async nextData(offset: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null> {
    return offset >= this.#sizeBytes ? null : await this.#file.nextData(offset);
  }

  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes === this.#sizeBytes) return;
    const isLarger = sizeBytes > this.#sizeBytes;
    await this.#file.truncate(sizeBytes);
    // Were something beyond the old end to survive a power cut alone, the file would have a size that nobody ever gave it.
    if (isLarger) await this.#file.sync();
    this.#sizeBytes = sizeBytes;
    this.#dataEnd = Math.min(this.#dataEnd, sizeBytes);
  }

  async seen(): Promise<{ readonly identity: string; readonly changedUnixMs: number }> {
    const { identity, changedUnixMs } = await this.#file.status();
    return { identity, changedUnixMs };
  }

  async close(): Promise<void> {
    await closed(this.#file, this.#claim);
  }
}

/** Null where there are no locks. */
async function claimed(files: FileSystem, path: string): Promise<FileLock | null> {
  const claim = await files.claim?.(path);
  if (claim === 'in-use') {
    const why = `base image ${path} is in use: a VM or a tool writes it, or another hub (fuser -v ${path})`;
    throw new StorageFault('base-in-use', why, { retryable: true });
  }
  return claim === undefined || claim === 'no-locks' ? null : claim;
}

async function closed(file: OpenFile, claim: FileLock | null): Promise<void> {
  try {
    await file.close();
  } finally {
    await claim?.release();
  }
}
