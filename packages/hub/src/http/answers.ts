/** How faults become HTTP answers: the status by code, else by who is at fault. */
import { Fault } from '@rephub/platform';

export interface ErrorAnswer {
  readonly error: { readonly code: string; readonly message: string; readonly retryable: boolean };
}

export type ErrorStatus = 400 | 404 | 409 | 413 | 500 | 502 | 503 | 504 | 507;

const BY_CODE: Readonly<Record<string, ErrorStatus>> = {
  'unknown-group': 404,
  'unknown-volume': 404,
  'unknown-test': 404,
  'unknown-point': 404,
  'body-too-large': 413,
  'test-exists': 409,
  'branch-exists': 409,
  'no-consistent-point': 409,
  'not-owned': 409,
  'has-history': 409,
  'seed-exists': 409,
  'agent-connected': 409,
  'being-forgotten': 409,
  'no-nbd-listener': 409,
  'agent-not-connected': 503,
  'agent-too-old': 409,
  'agent-gone': 502,
  'read-timeout': 504,
  'read-unreadable': 502,
  'read-busy': 503,
  'disk-full': 507,
  'journal-waits': 503,
  'hub-stopping': 503,
  'group-failed': 503,
  'journal-damaged': 503,
};

export function statusOf(thrown: unknown): ErrorStatus {
  if (!(thrown instanceof Fault)) return 500;
  const known = BY_CODE[thrown.code];
  if (known !== undefined) return known;
  switch (thrown.kind) {
    case 'config':
      return 400;
    case 'link':
    case 'protocol':
      return 502;
    case 'storage':
    case 'corruption':
      return 500;
  }
}

export function errorAnswer(thrown: unknown): ErrorAnswer {
  if (thrown instanceof Fault) {
    return { error: { code: thrown.code, message: thrown.message, retryable: thrown.retryable } };
  }
  return { error: { code: 'internal-error', message: 'an internal error; the log has it', retryable: false } };
}
