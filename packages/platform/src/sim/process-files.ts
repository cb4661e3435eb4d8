/**
 * The host's disk as one process sees it: what it has begun completes into its code only while it lives.
 *
 * Always holds: a crash of the disk never reaches the code; the operation just never completes, as on a machine
 * without power. Locks end with the process.
 */
import { asError } from '../errors.js';
import type { FileLock, FileStatus, FileSystem, NoClaim, OpenFile, OpenMode, OpenOptions } from '../files.js';
import { SimulatedCrash } from './files.js';
import type { Life } from './life.js';

export class ProcessFiles implements FileSystem {
  readonly #files: FileSystem;
  readonly #life: Life;
  readonly #locks = new Set<FileLock>();

  constructor(files: FileSystem, life: Life) {
    this.#files = files;
    this.#life = life;
  }

  /** The process has died: the kernel lets go of its locks. */
  releaseLocks(): void {
    for (const lock of this.#locks) void lock.release();
    this.#locks.clear();
  }

  async open(path: string, mode: OpenMode, options?: OpenOptions): Promise<OpenFile> {
    const file = await this.#io(() => this.#files.open(path, mode, options));
    return new ProcessOpenFile(file, (call) => this.#io(call));
  }

  status(path: string): Promise<FileStatus | null> {
    return this.#io(() => this.#files.status(path));
  }

  list(directory: string): Promise<string[]> {
    return this.#io(() => this.#files.list(directory));
  }

  makeDirectory(directory: string): Promise<void> {
    return this.#io(() => this.#files.makeDirectory(directory));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#io(() => this.#files.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#io(() => this.#files.remove(path));
  }

  removeTree(directory: string): Promise<void> {
    return this.#io(() => this.#files.removeTree(directory));
  }

  syncDirectory(directory: string): Promise<void> {
    return this.#io(() => this.#files.syncDirectory(directory));
  }

  async lock(path: string): Promise<FileLock | null> {
    const lock = await this.#taken(() => this.#files.lock(path));
    return lock === null ? null : this.#own(lock);
  }

  async claim(path: string): Promise<FileLock | NoClaim> {
    const claim = await this.#taken(() => this.#files.claim?.(path) ?? Promise.resolve('no-locks'));
    return typeof claim === 'string' ? claim : this.#own(claim);
  }

  #taken<T extends FileLock | NoClaim | null>(take: () => Promise<T>): Promise<T> {
    return this.#io(async () => {
      const taken = await take();
      if (taken === null || typeof taken === 'string') return taken;
      // A process that died meanwhile never had it.
      if (this.#life.state === 'dead') await taken.release();
      else this.#locks.add(taken);
      return taken;
    });
  }

  #own(lock: FileLock): FileLock {
    return {
      release: () => {
        this.#locks.delete(lock);
        return this.#io(() => lock.release());
      },
    };
  }

  room(path: string): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.#io(() => this.#files.room(path));
  }

  #io<T>(call: () => Promise<T>): Promise<T> {
    if (this.#life.state === 'dead') return new Promise(() => undefined);
    return new Promise((resolve, reject) => {
      call().then(
        (value) => this.#life.event(() => resolve(value)),
        (thrown: unknown) => {
          if (!(thrown instanceof SimulatedCrash)) this.#life.event(() => reject(asError(thrown)));
        },
      );
    });
  }
}

type Io = <T>(call: () => Promise<T>) => Promise<T>;

class ProcessOpenFile implements OpenFile {
  readonly #file: OpenFile;
  readonly #io: Io;

  constructor(file: OpenFile, io: Io) {
    this.#file = file;
    this.#io = io;
  }

  read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#io(() => this.#file.read(buffer, position));
  }

  write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    return this.#io(() => this.#file.write(chunks, position));
  }

  sync(): Promise<void> {
    return this.#io(() => this.#file.sync());
  }

  status(): Promise<FileStatus> {
    return this.#io(() => this.#file.status());
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#io(() => this.#file.truncate(sizeBytes));
  }

  allocate(position: number, lengthBytes: number): Promise<void> {
    return this.#io(() => this.#file.allocate(position, lengthBytes));
  }

  punch(position: number, lengthBytes: number): Promise<void> {
    return this.#io(() => this.#file.punch(position, lengthBytes));
  }

  nextData(position: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null> {
    return this.#io(() => this.#file.nextData(position));
  }

  close(): Promise<void> {
    return this.#io(() => this.#file.close());
  }
}
