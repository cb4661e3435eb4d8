/** What the operating system says about sockets, as Faults with our codes. Knows no sockets. */
import { ConfigFault, type Fault, LinkFault } from '../errors.js';
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
  return new LinkFault(LINK_CODE_OF[errno] ?? 'connection-failed', `${action} ${peer}: ${textOf(error)}`, {
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
  return new LinkFault(code, `cannot connect to ${address}: ${textOf(error)}`, { cause: error });
}

/** An address could not be listened on. */
export function listenFault(address: string, error: unknown): Fault {
  if (errnoName(error) === 'EADDRINUSE') {
    return new ConfigFault('address-in-use', `cannot listen on ${address}: something listens there already`, {
      cause: error,
    });
  }
  return new ConfigFault('address-not-allowed', `cannot listen on ${address}: ${textOf(error)}`, { cause: error });
}

function textOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(textOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
