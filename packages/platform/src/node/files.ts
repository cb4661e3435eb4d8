/**
 * The local disk: names, directories, locks and room. What happens inside an open file is open-file.ts.
 * Always holds: whatever fails is thrown as a StorageFault that names the path.
 */
import { constants, open } from 'node:fs';
import * as fs from 'node:fs/promises';
import { resolve as absolute } from 'node:path';
import { StorageFault } from '../errors.js';
import type { FileStatus, FileSystem, OpenFile, OpenMode } from '../files.js';
import { parentOf } from '../files.js';
import { hasAlignedMemory } from './aligned-memory.js';
import { claimFile } from './file-claim.js';
import { errnoName, storageFault } from './file-faults.js';
import { lockFile } from './file-lock.js';
import { NodeOpenFile, statusOf } from './open-file.js';
import { PastCacheFile } from './past-cache-file.js';
import { systemCalls, type SystemCalls } from './system-calls.js';

const FLAGS_OF: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT,
  'create-new': constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
};

/** The files of this machine. New files have mode 0600, new directories 0700. */
export function nodeFiles(calls: SystemCalls | null = systemCalls()): FileSystem {
  return {
    open: (path, mode, options) =>
      options?.pastCache === true ? openPastCache(path, mode, calls) : openFile(path, mode, calls),
    status: (path) => statusByName(path, calls),
    list: (directory) => attempt('list', directory, async () => (await fs.readdir(directory)).sort()),
    makeDirectory: (directory) => attempt('make directory', directory, () => makeDirectory(absolute(directory))),
    rename: (from, to) => attempt(`rename to ${to}:`, from, () => fs.rename(from, to)),
    reflink: (from, to) => reflink(from, to),
    remove: (path) => attempt('remove', path, () => ignoring('ENOENT', fs.unlink(path))),
    removeTree: (directory) => attempt('remove', directory, () => fs.rm(directory, { recursive: true, force: true })),
    syncDirectory: (directory) => attempt('sync directory', directory, () => syncDirectory(directory)),
    lock: (path) => lockFile(path, calls),
    claim: (path) => claimFile(path, calls),
    room: (path) =>
      attempt('ask for room at', path, async () => {
        const { bavail, blocks, bsize } = await fs.statfs(path);
        return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
      }),
  };
}

/** As openFile, with writes past the page cache where the memory for it can be had and the file system has it. */
async function openPastCache(path: string, mode: OpenMode, calls: SystemCalls | null): Promise<OpenFile> {
  const file = await openFile(path, mode, calls);
  if (mode === 'read' || calls === null || !hasAlignedMemory()) return file;
  return await new Promise((resolve) => {
    open(path, constants.O_WRONLY | constants.O_DIRECT, (error, fd) => {
      // Not every file system has it (tmpfs): then the usual way serves.
      resolve(error === null ? new PastCacheFile(file, fd, path) : file);
    });
  });
}

function openFile(path: string, mode: OpenMode, calls: SystemCalls | null): Promise<NodeOpenFile> {
  return new Promise((resolve, reject) => {
    open(path, FLAGS_OF[mode], 0o600, (error, fd) => {
      if (error === null) resolve(new NodeOpenFile(fd, path, calls));
      else reject(storageFault('open', path, error));
    });
  });
}

async function statusByName(path: string, calls: SystemCalls | null): Promise<FileStatus | null> {
  return await attempt('look at', path, async () => {
    let status: FileStatus;
    try {
      status = statusOf(await fs.stat(path, { bigint: true }));
    } catch (error) {
      if (errnoName(error) === 'ENOENT') return null;
      throw error;
    }
    if (status.kind !== 'block') return status;
    const file = await openFile(path, 'read', calls);
    try {
      return await file.status();
    } finally {
      await file.close();
    }
  });
}

async function makeDirectory(directory: string): Promise<void> {
  try {
    await fs.mkdir(directory, 0o700);
  } catch (error) {
    const errno = errnoName(error);
    if (errno === 'EEXIST') {
      if ((await fs.stat(directory)).isDirectory()) return;
      throw cannotMake(directory, 'exists', 'it is there and is no directory', error);
    }
    const parent = parentOf(directory);
    if (errno !== 'ENOENT' || parent === directory) throw error;
    const isThere = await exists(parent);
    if (!isThere) await makeDirectory(parent);
    try {
      // Again in both cases: somebody else may have made the parent meanwhile.
      await ignoring('EEXIST', fs.mkdir(directory, 0o700));
    } catch (again) {
      // So below /proc and the like: making the parent again would never end.
      if (!isThere || errnoName(again) !== 'ENOENT') throw again;
      throw cannotMake(directory, 'not-found', `${parent} takes no directories`, again);
    }
  }
  await syncDirectory(parentOf(directory));
}

function cannotMake(directory: string, code: string, why: string, cause: unknown): StorageFault {
  return new StorageFault(code, `cannot make directory ${directory}: ${why}`, { cause });
}

async function exists(path: string): Promise<boolean> {
  try {
    await fs.stat(path);
    return true;
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return false;
    throw error;
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    // Some file systems (FUSE, CIFS) know no syncing of directories and say EINVAL.
    await ignoring('EINVAL', handle.sync()).catch((cause: unknown) => {
      // As of a file: whatever the reason, names may be lost, and no later sync brings them back.
      throw new StorageFault('sync-failed', `cannot sync directory ${directory}: ${String(cause)}`, { cause });
    });
  } finally {
    await handle.close();
  }
}

async function ignoring(errno: string, done: Promise<void>): Promise<void> {
  try {
    await done;
  } catch (error) {
    if (errnoName(error) !== errno) throw error;
  }
}

async function attempt<T>(action: string, path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw storageFault(action, path, error);
  }
}

/** Not possible (another file system, or one that cannot share blocks) is an answer, not a failure. */
async function reflink(from: string, to: string): Promise<boolean> {
  try {
    await fs.copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    await fs.chmod(to, 0o600);
    return true;
  } catch (cause) {
    if (['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'ENOSYS', 'EINVAL', 'ENOTTY'].includes(errnoName(cause))) {
      await ignoring('ENOENT', fs.unlink(to));
      return false;
    }
    throw storageFault('share blocks with', from, cause);
  }
}
