/**
 * Exclusive locks on a path that die with the process: flock(2), or where that cannot be had a file that
 * names the process which holds it.
 *
 * Always holds: at most one holder on one machine; the lock file itself stays (flock) so that nobody locks
 * a name that another is removing.
 * Must not know: what is locked.
 */
import { constants, readFileSync } from 'node:fs';
import { type FileHandle, link, open, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import type { FileLock } from '../files.js';
import { errnoName, storageFault } from './file-faults.js';
import { LOCK_EXCLUSIVE, LOCK_NO_WAIT, type SystemCalls } from './system-calls.js';

/** Null when it is held already, by this process or another. */
export async function lockFile(path: string, calls: SystemCalls | null): Promise<FileLock | null> {
  try {
    return calls === null ? await lockByName(path) : await lockByKernel(path, calls);
  } catch (error) {
    throw storageFault('lock', path, error);
  }
}

async function lockByKernel(path: string, calls: SystemCalls): Promise<FileLock | null> {
  const handle: FileHandle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    calls.flock(handle.fd, LOCK_EXCLUSIVE | LOCK_NO_WAIT);
  } catch (error) {
    await handle.close();
    const errno = errnoName(error);
    if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') return null;
    if (errno === 'EOPNOTSUPP' || errno === 'ENOSYS' || errno === 'ENOLCK') return await lockByName(`${path}.pid`);
    throw error;
  }
  let released: Promise<void> | null = null;
  return { release: () => (released ??= handle.close()) };
}

/** What tells a process from a later one with the same number: its start time in clock ticks since boot. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

async function lockByName(path: string): Promise<FileLock | null> {
  const mine = `${process.pid} ${startOf(process.pid) ?? '?'}\n`;
  const beside = `${path}.${process.pid}`;
  for (let attempt = 0; attempt < 8; attempt += 1) {
    await writeFile(beside, mine, { mode: 0o600 });
    try {
      // A link appears with its content, so nobody ever reads a name file that is still empty.
      await link(beside, path);
    } catch (error) {
      if (errnoName(error) !== 'EEXIST') throw error;
      if (!(await removeStale(path))) return null;
      continue;
    } finally {
      await unlink(beside);
    }
    let released: Promise<void> | null = null;
    return { release: () => (released ??= unlink(path)) };
  }
  return null;
}

/** Takes away a name file whose process is gone; false when it lives. */
async function removeStale(path: string): Promise<boolean> {
  const content = await readOrNull(path);
  if (content === null) return true;
  const [pid, start] = content.trim().split(' ');
  const startNow = startOf(Number(pid));
  if (startNow !== null && (start === '?' || start === startNow)) return false;
  const aside = `${path}.stale.${process.pid}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return true;
    throw error;
  }
  // Between reading and renaming another process may have put its own name there: give it back.
  if ((await readOrNull(aside)) !== content) {
    await link(aside, path).catch(() => undefined);
    await unlink(aside);
    return false;
  }
  await unlink(aside);
  return true;
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'latin1');
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return null;
    throw error;
  }
}
