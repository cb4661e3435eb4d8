/** What an operator asks for at the hub, done here: a resync of one kind or another, a verification. */
import { type Logger } from '@rephub/platform';
import { type Request } from '@rephub/protocol';
import { type Mirror } from '../mirror/mirror.js';

export interface RequestParts {
  readonly log: Logger;
  readonly mirror: Mirror;
  /** Verifies everything, and reports it under this id. */
  readonly verify: (id: string, cause: string) => void;
  /** Makes everything dirty, to be compared first or all sent. */
  readonly copyAll: (compare: boolean, cause: string) => Promise<void>;
}

/** Resolves when it has begun. */
export async function carryOutRequest({ log, mirror, copyAll, verify }: RequestParts, request: Request): Promise<void> {
  const cause = 'asked for at the hub';
  log.info('request-from-hub', { kind: request.kind });
  if (request.kind === 'resync-full') await copyAll(false, cause);
  if (request.kind === 'verify') verify(request.id ?? '', cause);
  if (request.kind === 'resync-compare') await copyAll(true, cause);
  mirror.wantSpan();
}
