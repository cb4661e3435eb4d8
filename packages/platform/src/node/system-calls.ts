/**
 * The few system calls that Node does not offer, through koffi. Owns the bindings to libc.
 *
 * Always holds: a failed call throws an Error whose `code` is the errno's name, as Node's own do. Calls
 * that may wait for the disk run on the thread pool; at most LIMIT of them are handed to koffi at once,
 * because it throws when its queue is full.
 * Must not know: paths, faults.
 */
import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

export interface SystemCalls {
  fallocate(fd: number, mode: number, position: number, lengthBytes: number): Promise<void>;
  /** Resolves to the position reached. */
  seek(fd: number, position: number, whence: number): Promise<number>;
  /** Never waits. */
  flock(fd: number, operation: number): void;
  /** Locks one byte for this open file description, never waiting; false where another's lock stands against it. */
  lockByte(fd: number, position: number, how: 'shared' | 'exclusive'): Promise<boolean>;
  /** Does anybody else hold a lock on this byte? */
  isByteLocked(fd: number, position: number): Promise<boolean>;
}

export const FALLOC_KEEP_SIZE = 1;
export const FALLOC_PUNCH_HOLE = 2;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;
export const LOCK_EXCLUSIVE = 2;
export const LOCK_NO_WAIT = 4;

/** fcntl's locks that belong to an open file, not to a process: struct flock as 64-bit Linux has it. */
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const FLOCK_BYTES = 32;

const LIMIT = 128;

type AsyncCall = (...parameters: unknown[]) => void;

let loaded: SystemCalls | null | undefined;

/** The calls, or null where koffi or libc cannot be loaded. Loaded once per process. */
export function systemCalls(): SystemCalls | null {
  if (loaded === undefined) loaded = load();
  return loaded;
}

function load(): SystemCalls | null {
  if (process.platform !== 'linux') return null;
  let koffi: typeof Koffi;
  let libc: Koffi.LibraryHandle;
  try {
    koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    libc = koffi.load(null);
  } catch {
    return null;
  }
  return bind(koffi, libc);
}

function bind(koffi: typeof Koffi, libc: Koffi.LibraryHandle): SystemCalls | null {
  const nameOf = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
  const failure = (call: string): Error => {
    const errno = koffi.errno();
    const code = errno === koffi.os.errno['ENOTSUP'] ? 'EOPNOTSUPP' : (nameOf.get(errno) ?? `errno ${errno}`);
    return Object.assign(new Error(`${call}: ${code}`), { code, errno });
  };

  let running = 0;
  const waiting: (() => void)[] = [];
  const inPool = (call: string, run: AsyncCall, ...parameters: (number | Buffer)[]): Promise<number> =>
    new Promise((resolve, reject) => {
      const start = (): void => {
        running += 1;
        run(...parameters, (error: unknown, result: number | bigint) => {
          running -= 1;
          const value = Number(result);
          // errno belongs to this callback: it must be read before anything else runs.
          const failed = error !== null ? (error as Error) : value < 0 ? failure(call) : null;
          if (failed?.message === `${call}: EINTR`) start();
          else if (failed === null) resolve(value);
          else reject(failed);
          waiting.shift()?.();
        });
      };
      if (running < LIMIT) start();
      else waiting.push(start);
    });

  try {
    // Newer musl has only the plain names, which take 64 bits there.
    const named = (plain: string, rest: string): ReturnType<Koffi.LibraryHandle['func']> => {
      try {
        return libc.func(rest.replace('NAME', `${plain}64`));
      } catch {
        return libc.func(rest.replace('NAME', plain));
      }
    };
    const fallocate = named('fallocate', 'int NAME(int fd, int mode, int64_t position, int64_t length)');
    const lseek = named('lseek', 'int64_t NAME(int fd, int64_t position, int whence)');
    const flock = libc.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number;
    const fcntl = named('fcntl', 'int NAME(int fd, int command, void *lock)');
    const fcntlInPool = fcntl.async as AsyncCall;
    const fallocateInPool = fallocate.async as AsyncCall;
    const lseekInPool = lseek.async as AsyncCall;
    return {
      fallocate: async (fd, mode, position, lengthBytes) => {
        await inPool('fallocate', fallocateInPool, fd, mode, position, lengthBytes);
      },
      seek: (fd, position, whence) => inPool('lseek', lseekInPool, fd, position, whence),
      flock: (fd, operation) => {
        if (flock(fd, operation) !== 0) throw failure('flock');
      },
      lockByte: async (fd, position, how) => {
        try {
          await inPool('fcntl', fcntlInPool, fd, F_OFD_SETLK, flockOf(how === 'shared' ? F_RDLCK : F_WRLCK, position));
          return true;
        } catch (error) {
          const { code } = error as { readonly code?: string };
          if (code === 'EAGAIN' || code === 'EWOULDBLOCK' || code === 'EACCES') return false;
          throw error;
        }
      },
      isByteLocked: async (fd, position) => {
        const lock = flockOf(F_WRLCK, position);
        await inPool('fcntl', fcntlInPool, fd, F_OFD_GETLK, lock);
        return lock.readInt16LE(0) !== F_UNLCK;
      },
    };
  } catch {
    return null;
  }
}

/** One byte at `position`, counted from the file's begin; the last field, a process, must be 0. */
function flockOf(type: number, position: number): Buffer {
  const lock = Buffer.alloc(FLOCK_BYTES);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(position), 8);
  lock.writeBigInt64LE(1n, 16);
  return lock;
}
