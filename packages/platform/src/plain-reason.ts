/**
 * What the operating system said, in words for people: why alone, without the call, the path or the address, which
 * whoever reports it names. Pure; knows names of errors, no files and no sockets.
 */
import { asError } from './errors.js';

const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'no permission',
  EADDRINUSE: 'something listens there already',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EAI_AGAIN: 'the name of the host cannot be looked up now',
  ECONNREFUSED: 'nobody listens there',
  ECONNRESET: 'the other side broke it off',
  EEXIST: 'it exists already',
  EHOSTUNREACH: 'no way leads to that host',
  EISDIR: 'it is a directory',
  ENAMETOOLONG: 'the name is too long',
  ENETUNREACH: 'no way leads to that network',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on the device',
  ENOTDIR: 'a part of the path is no directory',
  ENOTFOUND: 'nobody knows a host of that name',
  EPERM: 'not permitted',
  EPIPE: 'the other side broke it off',
  EROFS: 'the file system is read-only',
  ETIMEDOUT: 'no answer',
};

/** Why it failed: `nobody listens there (ECONNREFUSED)`. What the table does not have says its own message. */
export function plainReason(thrown: unknown): string {
  const code = typeof thrown === 'object' && thrown !== null && 'code' in thrown ? thrown.code : undefined;
  const words = typeof code === 'string' ? WORDS[code] : undefined;
  if (words !== undefined) return `${words} (${String(code)})`;
  if (thrown instanceof AggregateError && thrown.message === '') return thrown.errors.map(plainReason).join('; ');
  return asError(thrown).message;
}
