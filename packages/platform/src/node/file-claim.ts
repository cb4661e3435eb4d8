/**
 * Claims on files that others may write too, in the way QEMU locks its images: each permission has a byte, locked by who
 * uses it from 100 on, and by who does not want others to use it from 200 on. QEMU locks for reading only, and looks at
 * the bytes of the others; those who claim here have one more byte, for one of them.
 *
 * Always holds: who writes is not let in by us, nor we by him; who only reads, as QEMU's tools do, is let in and stands in
 * nobody's way, for he would have to be told of every write; of two who claim at most one has it.
 * Must not know: what the file is.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileLock, NoClaim } from '../files.js';
import { errnoName, storageFault } from './file-faults.js';
import type { SystemCalls } from './system-calls.js';

const USED_FROM = 100;
const UNSHARED_FROM = 200;
/** Unknown to QEMU. */
const OURS = 300;
/** Of QEMU's permissions those that change a disk under its owner: writing it, and making it larger or smaller. */
const WRITE = 1;
const RESIZE = 3;

/** What file systems without such locks say, and kernels that do not know them. */
const NO_LOCKS: ReadonlySet<string> = new Set(['ENOLCK', 'EINVAL', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP']);

export async function claimFile(path: string, calls: SystemCalls | null): Promise<FileLock | NoClaim> {
  // The layout of a lock is that of 64-bit systems.
  if (calls === null || process.arch === 'ia32' || process.arch === 'arm') return 'no-locks';
  try {
    // A descriptor of its own: the claim stays when the file is closed and opened again.
    const handle = await open(path, constants.O_RDWR);
    let isMine = false;
    try {
      isMine = await claim(calls, handle.fd);
    } catch (error) {
      if (!NO_LOCKS.has(errnoName(error))) throw error;
      return 'no-locks';
    } finally {
      if (!isMine) await handle.close();
    }
    let released: Promise<void> | null = null;
    return isMine ? { release: () => (released ??= handle.close()) } : 'in-use';
  } catch (error) {
    throw storageFault('lock', path, error);
  }
}

async function claim(calls: SystemCalls, fd: number): Promise<boolean> {
  if (!(await calls.lockByte(fd, OURS, 'exclusive'))) return false;
  // Said first, looked at afterwards, as QEMU does: of two who come at once none misses the other. The bytes of who
  // uses a permission are left alone: a reader wants nobody to be there.
  for (const permission of [WRITE, RESIZE]) {
    if (!(await calls.lockByte(fd, UNSHARED_FROM + permission, 'shared'))) return false;
  }
  for (const permission of [WRITE, RESIZE]) {
    if (await calls.isByteLocked(fd, USED_FROM + permission)) return false;
  }
  return true;
}
