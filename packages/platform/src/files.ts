import { CorruptionFault } from './errors.js';

/**
 * Files as the core sees them: asynchronous, by range, with syncing said out loud. The local disk
 * implements it today; a simulated disk that loses, tears and garbles implements it in tests.
 *
 * What an implementation promises and what it does not:
 *  - `write` has put the bytes where a killed process does not lose them; only `sync` makes them
 *    survive a power cut. A new name survives a power cut only after `syncDirectory` of its directory.
 *  - After a `sync` that threw, nothing is known of what was written since the last good one, and a
 *    later `sync` that succeeds proves nothing (a failed fsync is a failed disk).
 *  - Every failure is thrown as a StorageFault; what lacks room, file handles or memory is retryable, others are not.
 */
export type OpenMode =
  /** Must exist; reading only. */
  | 'read'
  /** Must exist; reading and writing. */
  | 'write'
  /** Made if missing; reading and writing. */
  | 'create'
  /** Must not exist; reading and writing. */
  | 'create-new';

export interface OpenOptions {
  /**
   * For a file that is only appended to, in large writes, and synced often: writes may go past the page cache.
   * Up to 4095 bytes behind what was written then read as zeroes; one write at a time. Only a wish.
   */
  readonly pastCache?: boolean;
}

export interface FileStatus {
  readonly kind: 'file' | 'directory' | 'block' | 'other';
  readonly sizeBytes: number;
  /** Bytes really taken on the disk (holes are not). */
  readonly allocatedBytes: number;
  /** Tells one file from another on one machine: device and inode. */
  readonly identity: string;
  /** When content or attributes were changed last; no program can set it back. */
  readonly changedUnixMs: number;
}

/** A file that is open. Calls may overlap in time; overlapping ranges in flight are the caller's affair. */
export interface OpenFile {
  /**
   * Reads up to `buffer.length` bytes at `position`; resolves to how many there were (short only at the end). `once`: nobody
   * will ask for these bytes again soon, so a large read may go past the page cache. Only a wish.
   */
  read(buffer: Uint8Array, position: number, once?: boolean): Promise<number>;
  /** Writes all of `chunks`, one after the other, from `position` on. Throws having written any part. */
  write(chunks: readonly Uint8Array[], position: number): Promise<void>;
  /** Content and size are on stable storage when this resolves (fdatasync). */
  sync(): Promise<void>;
  status(): Promise<FileStatus>;
  truncate(sizeBytes: number): Promise<void>;
  /** Takes disk space for the range, so that writing it cannot fail for want of room. Content reads as before, or zero. */
  allocate(position: number, lengthBytes: number): Promise<void>;
  /** The range reads as zeroes afterwards and takes no space where the file system can do that. Never grows the file. */
  punch(position: number, lengthBytes: number): Promise<void>;
  /** The first run of data at or after `position`, or null when only a hole follows. May take holes for data. */
  nextData(position: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null>;
  close(): Promise<void>;
}

export interface FileLock {
  release(): Promise<void>;
}

/** Why a file could not be claimed: somebody else writes it or lets nobody write, or there are no locks where it lies. */
export type NoClaim = 'in-use' | 'no-locks';

export interface FileSystem {
  open(path: string, mode: OpenMode, options?: OpenOptions): Promise<OpenFile>;
  /** Null when there is nothing of that name. */
  status(path: string): Promise<FileStatus | null>;
  /** Names in the directory, sorted; throws when it is missing. */
  list(directory: string): Promise<string[]>;
  /** Makes the directory and what is missing above it; each new name is synced into its parent. Mode 0700. */
  makeDirectory(directory: string): Promise<void>;
  /** Atomic; durable only after syncDirectory of both parents. Replaces what has the new name. */
  rename(from: string, to: string): Promise<void>;
  /**
   * Makes `to`, which must not exist, a file that shares all blocks of `from`; false, and nothing made, where that cannot
   * be had. Left out where no file system can.
   */
  reflink?(from: string, to: string): Promise<boolean>;
  /** Removes a file; harmless when it is missing. */
  remove(path: string): Promise<void>;
  /** Removes a directory with all that is in it; harmless when it is missing. */
  removeTree(directory: string): Promise<void>;
  /** Throws `sync-failed` where the sync itself fails, whatever the reason: names may be lost then, as bytes are with a file's. */
  syncDirectory(directory: string): Promise<void>;
  /** An exclusive lock that dies with the process; null when another process, or this one, holds it. */
  lock(path: string): Promise<FileLock | null>;
  /**
   * Keeps others from writing this file, or a block device, and from changing its size, for as long as the claim is held:
   * those who ask as QEMU and its tools do. Reading stays free. Dies with the process. Left out where there is nobody else.
   */
  claim?(path: string): Promise<FileLock | NoClaim>;
  /** Bytes that may still be written to the file system that holds `path`, and its size. */
  room(path: string): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
}

/** Reads exactly `lengthBytes`; throws `file-short` when the file ends before. */
export async function readExactly(file: OpenFile, position: number, lengthBytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(lengthBytes);
  const read = await file.read(buffer, position);
  if (read !== lengthBytes) {
    throw new CorruptionFault('file-short', `file ends at byte ${position + read}, ${lengthBytes - read} bytes early`);
  }
  return buffer;
}

/** The whole content of a small file (at most 16 MiB), or null when there is none of that name. */
export async function readSmallFile(files: FileSystem, path: string): Promise<Buffer | null> {
  const status = await files.status(path);
  if (status === null) return null;
  if (status.sizeBytes > 16 * 1024 * 1024) {
    throw new CorruptionFault(
      'file-too-big',
      `${path} has ${status.sizeBytes} bytes, more than the 16 MiB it may have`,
    );
  }
  const file = await files.open(path, 'read');
  try {
    return await readExactly(file, 0, status.sizeBytes);
  } finally {
    await file.close();
  }
}

/** Replaces a small file, as `replaceFile` does. */
export async function replaceSmallFile(files: FileSystem, path: string, content: Uint8Array): Promise<void> {
  await replaceFile(files, path, (file) => file.write([content], 0));
}

/**
 * Makes a file, or puts a new one in its place, so that after a crash either the old or the new content is there, whole:
 * filled beside it as `PATH.new`, synced, renamed, directory synced. Durable when it resolves.
 */
export async function replaceFile(
  files: FileSystem,
  path: string,
  fill: (file: OpenFile) => Promise<void>,
): Promise<void> {
  const beside = `${path}.new`;
  await files.remove(beside);
  const file = await files.open(beside, 'create-new');
  try {
    await fill(file);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(beside, path);
  await files.syncDirectory(parentOf(path));
}

/** The directory part of a path; `.` when it has none. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  if (slash < 0) return '.';
  return slash === 0 ? '/' : path.slice(0, slash);
}
