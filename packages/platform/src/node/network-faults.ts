/** What the operating system says about sockets, as Faults with our codes. Knows no sockets. */
import { type Fault, LinkFault } from '../errors.js';
import { plainReason } from '../plain-reason.js';
import { errnoName } from './file-faults.js';

const LINK_CODE_OF: Readonly<Record<string, string>> = {
  ECONNRESET: 'connection-reset',
  EPIPE: 'connection-reset',
  ECONNABORTED: 'connection-reset',
  ETIMEDOUT: 'connection-timeout',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
};

/** An open connection broke. */
export function linkFault(action: string, peer: string, error: unknown): Fault {
  const errno = errnoName(error);
  return new LinkFault(LINK_CODE_OF[errno] ?? 'connection-failed', `${action} ${peer}: ${plainReason(error)}`, {
    cause: error,
  });
}

/** A connection could not be had. Nobody listening is `connect-refused`, a missing socket included. */
export function connectFault(address: string, error: unknown): Fault {
  const errno = errnoName(error);
  const code =
    errno === 'ECONNREFUSED' || errno === 'ENOENT'
      ? 'connect-refused'
      : errno === 'ETIMEDOUT'
        ? 'connect-timeout'
        : 'connect-failed';
  return new LinkFault(code, `cannot connect to ${address}: ${plainReason(error)}`, { cause: error });
}

/**
 * An address could not be listened on: `address-in-use`, worth another try when whoever has it is gone, or
 * `address-not-allowed`. `option` is named in front.
 */
export function listenFault(address: string, error: unknown, option?: string): Fault {
  const isInUse = errnoName(error) === 'EADDRINUSE';
  const code = isInUse ? 'address-in-use' : 'address-not-allowed';
  // Of a Unix socket Node says EACCES too when its directory is missing.
  const why =
    errnoName(error) === 'EACCES' && address.includes('/')
      ? 'no permission, or its directory is not there (EACCES)'
      : plainReason(error);
  const named = option === undefined ? '' : `${option}: `;
  return new LinkFault(code, `${named}cannot listen on ${address}: ${why}`, { retryable: isInUse, cause: error });
}
