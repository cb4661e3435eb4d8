/** Whether writes still go upstream: `--retry-readonly` may end that after a failure, for good. */
import { NbdError } from '@rephub/nbd';
import { type Logger } from '@rephub/platform';
import { type RetryReadonly } from './upstream-parts.js';

export class ReadOnlyGuard {
  /** Why nothing is written any more; null while it is. */
  reason: string | null = null;
  readonly #when: RetryReadonly;
  readonly #log: Logger;
  readonly #volume: string;

  constructor(when: RetryReadonly, log: Logger, volume: string) {
    this.#when = when;
    this.#log = log;
    this.#volume = volume;
  }

  /** An upstream that comes back read-only is taken as it is. */
  get allowsReadOnly(): boolean {
    return this.#when !== 'no';
  }

  /** What a write gets. */
  get writeError(): number {
    return this.reason === null ? NbdError.Ok : NbdError.Eperm;
  }

  /** An operation failed, and is to be repeated. */
  failed(isWrite: boolean): void {
    if (this.#when === 'yes' || (this.#when === 'on-write-failure' && isWrite)) {
      this.enter(`read-only since a ${isWrite ? 'write' : 'read'} failed`);
    }
  }

  /** A connection was lost with nothing in flight. */
  lost(): void {
    if (this.#when === 'yes') this.enter('read-only since a connection was lost');
  }

  enter(reason: string): void {
    if (this.reason !== null) return;
    this.reason = reason;
    this.#log.error('upstream-read-only', { volume: this.#volume, reason });
  }
}
