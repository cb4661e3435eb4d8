/**
 * What the operating system says about files, as StorageFaults. Owns the table from errno names to our
 * codes; knows no files.
 */
import { Fault, StorageFault } from '../errors.js';

const CODE_OF: Readonly<Record<string, string>> = {
  ENOSPC: 'disk-full',
  EDQUOT: 'quota',
  EFBIG: 'file-too-big',
  EIO: 'io-error',
  ENODEV: 'io-error',
  ENXIO: 'io-error',
  EREMOTEIO: 'io-error',
  ESTALE: 'io-error',
  ETIMEDOUT: 'io-error',
  ENOENT: 'not-found',
  ENOTDIR: 'not-a-directory',
  EISDIR: 'is-a-directory',
  EEXIST: 'exists',
  ENOTEMPTY: 'not-empty',
  EACCES: 'no-permission',
  EPERM: 'no-permission',
  EROFS: 'read-only',
  EBADF: 'closed',
  EMFILE: 'too-many-files',
  ENFILE: 'too-many-files',
  ENOMEM: 'no-memory',
  EBUSY: 'busy',
  ETXTBSY: 'busy',
  ENAMETOOLONG: 'name-too-long',
  ELOOP: 'too-many-links',
  EXDEV: 'other-file-system',
  EOPNOTSUPP: 'not-supported',
  EINVAL: 'not-supported',
};

const RETRYABLE: ReadonlySet<string> = new Set(['disk-full', 'quota', 'too-many-files', 'no-memory']);

/** The errno name (`ENOSPC`) of what a system call threw; empty when there is none. */
export function errnoName(thrown: unknown): string {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return '';
  return typeof thrown.code === 'string' ? thrown.code : '';
}

/** A StorageFault that says what was tried on which file and why it failed. Faults pass unchanged. */
export function storageFault(action: string, path: string, thrown: unknown): Fault {
  if (thrown instanceof Fault) return thrown;
  const errno = errnoName(thrown);
  const code = CODE_OF[errno] ?? 'io-error';
  const why = errno === '' ? String(thrown) : `${sentenceOf(code)} (${errno})`;
  return new StorageFault(code, `cannot ${action} ${path}: ${why}`, {
    retryable: RETRYABLE.has(code),
    cause: thrown,
  });
}

function sentenceOf(code: string): string {
  switch (code) {
    case 'disk-full':
      return 'no space left on the device';
    case 'quota':
      return 'disk quota used up';
    case 'io-error':
      return 'the device failed';
    case 'not-found':
      return 'no such file or directory';
    case 'exists':
      return 'it exists already';
    case 'no-permission':
      return 'no permission';
    case 'read-only':
      return 'the file system is read-only';
    case 'closed':
      return 'the file is not open for that';
    default:
      return code.replaceAll('-', ' ');
  }
}
