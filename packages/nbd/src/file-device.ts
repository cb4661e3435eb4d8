/**
 * A plain file or a block device as a BlockDevice: sparse, holes found and punched.
 *
 * Always holds:
 *  - flush and FUA are answered after a sync that began after the request came; requests that wait share one;
 *  - once a sync has failed, every later flush and FUA is answered EIO: nothing proves any more what is stored;
 *  - the size changes only by `grow`: a file that has become shorter is an error, not zeroes.
 * Must not know: how the file system is reached.
 */
import { asError, ConfigFault, Fault, type FileLock, type FileSystem, type OpenFile } from '@rephub/platform';
import {
  type Abilities,
  ALLOCATION_CONTEXT,
  AllocationFlag,
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  DEFAULT_LIMITS,
  type Limits,
  NbdError,
} from './block-device.js';
import { freshBuffer } from './slab.js';
import { appendZeroes } from './zeroes.js';

export interface FileDeviceOptions {
  /** Neither writes nor asks for permission to. */
  readonly readOnly?: boolean;
  /** Hears of what went wrong with the file; the request is answered with an error all the same. */
  readonly onError?: (error: Error) => void;
  /** Keeps others from the file: asked for before anything is written, given back once the file is closed. */
  readonly claim?: () => Promise<FileLock>;
}

const SECTOR_BYTES = 512;
/** Runs looked up for one block status request; a client asks again for the rest. */
const MAX_RUNS = 1024;
/** Zeroes written in one call where a hole is not wanted. */
const ZEROES_STEP_BYTES = 16 * 1024 * 1024;
const HOLE = AllocationFlag.Hole | AllocationFlag.Zero;

/** A device over something that may become larger meanwhile. */
export interface GrowingDevice extends BlockDevice {
  /**
   * Looks how large it is now and, when that is more and a whole number of sectors, is so large from now on. Returns what
   * was seen.
   */
  grow(): Promise<number>;
}

/**
 * Opens a plain or block file as a device. Throws a ConfigFault: `upstream-missing`, `upstream-not-a-file`,
 * `upstream-empty`, `upstream-odd-size`, `upstream-read-only`; or the StorageFault of the file system.
 */
export async function openFileDevice(
  files: FileSystem,
  path: string,
  options: FileDeviceOptions = {},
): Promise<GrowingDevice> {
  const status = await files.status(path);
  if (status === null) throw new ConfigFault('upstream-missing', `there is no file ${path}`);
  if (status.kind !== 'file' && status.kind !== 'block') {
    throw new ConfigFault('upstream-not-a-file', `${path} is neither a plain file nor a block device`);
  }
  const { sizeBytes } = status;
  if (sizeBytes === 0) throw new ConfigFault('upstream-empty', `${path} has no bytes: make it as large as the disk`);
  if (sizeBytes % SECTOR_BYTES !== 0) {
    throw new ConfigFault(
      'upstream-odd-size',
      `${path} has ${sizeBytes} bytes, which is no multiple of ${SECTOR_BYTES}`,
    );
  }
  const readOnly = options.readOnly ?? false;
  const file = await openWith(files, path, readOnly);
  try {
    const claim = (await options.claim?.()) ?? null;
    return new FileDevice(file, sizeBytes, status.kind === 'file', claim, options);
  } catch (fault) {
    await file.close();
    throw fault;
  }
}

async function openWith(files: FileSystem, path: string, readOnly: boolean): Promise<OpenFile> {
  try {
    return await files.open(path, readOnly ? 'read' : 'write');
  } catch (error) {
    if (!readOnly && error instanceof Fault && READ_ONLY_CODES.has(error.code)) {
      throw new ConfigFault('upstream-read-only', `${path} may not be written`, { cause: error });
    }
    throw error;
  }
}

const READ_ONLY_CODES: ReadonlySet<string> = new Set(['no-permission', 'read-only']);

const FULL_CODES: ReadonlySet<string> = new Set(['disk-full', 'quota', 'file-too-big']);

class FileDevice implements GrowingDevice {
  #sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits = DEFAULT_LIMITS;
  readonly #file: OpenFile;
  readonly #claim: FileLock | null;
  readonly #onError: (error: Error) => void;
  #inFlight = 0;
  #syncHasFailed = false;
  #isSyncing = false;
  /** Requests that want a sync that begins from now on. */
  #wantSync: BlockRequest[] = [];
  #idle: (() => void) | null = null;
  #closing: Promise<void> | null = null;

  constructor(
    file: OpenFile,
    sizeBytes: number,
    punchIsFast: boolean,
    claim: FileLock | null,
    options: FileDeviceOptions,
  ) {
    const readOnly = options.readOnly ?? false;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#claim = claim;
    this.#onError = options.onError ?? (() => undefined);
    this.abilities = {
      readOnly,
      flush: true,
      fua: true,
      trim: !readOnly,
      writeZeroes: !readOnly,
      fastZero: !readOnly && punchIsFast,
      cache: false,
      multiConn: true,
      contexts: [ALLOCATION_CONTEXT],
    };
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async grow(): Promise<number> {
    const { sizeBytes } = await this.#file.status();
    if (sizeBytes > this.#sizeBytes && sizeBytes % SECTOR_BYTES === 0) this.#sizeBytes = sizeBytes;
    return sizeBytes;
  }

  submit(request: BlockRequest): void {
    if (this.#closing !== null) {
      request.complete(NbdError.Eshutdown);
      return;
    }
    this.#inFlight++;
    switch (request.command) {
      case Command.Read:
        this.#read(request);
        break;
      case Command.Write:
        this.#change(request, this.#file.write(request.data, request.offset));
        break;
      case Command.Trim:
        this.#change(request, this.#file.punch(request.offset, request.length));
        break;
      case Command.WriteZeroes:
        this.#change(request, this.#zero(request));
        break;
      case Command.Flush:
        this.#sync(request);
        break;
      case Command.BlockStatus:
        this.#runs(
          request.offset,
          request.offset + request.length,
          (request.flags & CommandFlag.RequestOne) === 0 ? MAX_RUNS : 1,
        ).then(
          (runs) => {
            request.extents = request.contexts.map(() => ({ runs }));
            this.#done(request, NbdError.Ok);
          },
          (error: unknown) => this.#failed(request, error),
        );
        break;
      case Command.Cache:
        this.#done(request, NbdError.Einval);
        break;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    try {
      await this.#file.close();
    } finally {
      await this.#claim?.release();
    }
  }

  #read(request: BlockRequest): void {
    const buffer = freshBuffer(request.length);
    this.#file.read(buffer, request.offset).then(
      (bytes) => {
        if (bytes !== request.length) {
          this.#failed(request, new Error(`the file ends at byte ${request.offset + bytes}: it has been cut`));
          return;
        }
        request.data.push(buffer);
        this.#done(request, NbdError.Ok);
      },
      (error: unknown) => this.#failed(request, error),
    );
  }

  #change(request: BlockRequest, changed: Promise<void>): void {
    changed.then(
      () => {
        if ((request.flags & CommandFlag.Fua) !== 0) this.#sync(request);
        else this.#done(request, NbdError.Ok);
      },
      (error: unknown) => this.#failed(request, error),
    );
  }

  async #zero(request: BlockRequest): Promise<void> {
    if ((request.flags & CommandFlag.NoHole) === 0) {
      await this.#file.punch(request.offset, request.length);
      return;
    }
    const end = request.offset + request.length;
    for (let offset = request.offset; offset < end; offset += ZEROES_STEP_BYTES) {
      const zeroes: Buffer[] = [];
      appendZeroes(zeroes, Math.min(ZEROES_STEP_BYTES, end - offset));
      await this.#file.write(zeroes, offset);
    }
  }

  #sync(request: BlockRequest): void {
    if (this.#syncHasFailed) {
      this.#done(request, NbdError.Eio);
      return;
    }
    this.#wantSync.push(request);
    if (!this.#isSyncing) void this.#syncAll();
  }

  async #syncAll(): Promise<void> {
    this.#isSyncing = true;
    while (this.#wantSync.length > 0) {
      const batch = this.#wantSync;
      this.#wantSync = [];
      try {
        if (!this.#syncHasFailed) await this.#file.sync();
      } catch (error) {
        this.#syncHasFailed = true;
        this.#onError(asError(error));
      }
      for (const request of batch) this.#done(request, this.#syncHasFailed ? NbdError.Eio : NbdError.Ok);
    }
    this.#isSyncing = false;
  }

  /** The first `most` runs and, where it costs nothing, one more. */
  async #runs(from: number, end: number, most: number): Promise<number[]> {
    const runs: number[] = [];
    let offset = from;
    while (offset < end && runs.length < 2 * most) {
      const data = await this.#file.nextData(offset);
      // Beyond a file's end all looks like a hole.
      if (data === null) await this.#mustReach(end);
      const start = data === null ? end : Math.min(data.position, end);
      appendRun(runs, start - offset, HOLE);
      const stop = data === null ? end : Math.min(data.position + data.lengthBytes, end);
      appendRun(runs, stop - start, 0);
      // A file system that says nothing of use must not keep us here.
      if (stop <= offset) break;
      offset = stop;
    }
    if (runs.length === 0) runs.push(end - from, 0);
    return runs;
  }

  async #mustReach(end: number): Promise<void> {
    const { sizeBytes } = await this.#file.status();
    if (sizeBytes < end) throw new Error(`the file ends at byte ${sizeBytes}: it has been cut`);
  }

  #failed(request: BlockRequest, thrown: unknown): void {
    const error = asError(thrown);
    this.#onError(error);
    const isFull = error instanceof Fault && FULL_CODES.has(error.code);
    this.#done(request, isFull ? NbdError.Enospc : NbdError.Eio);
  }

  #done(request: BlockRequest, error: number): void {
    this.#inFlight--;
    request.complete(error);
    if (this.#inFlight === 0) this.#idle?.();
  }
}

/** Adjacent runs of one kind become one. */
function appendRun(runs: number[], length: number, flags: number): void {
  if (length <= 0) return;
  if (runs.at(-1) === flags) runs[runs.length - 2] = (runs.at(-2) ?? 0) + length;
  else runs.push(length, flags);
}
