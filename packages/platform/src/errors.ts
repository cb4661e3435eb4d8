/**
 * The few kinds of failure, told apart by who is at fault. Policy reads `kind`, `code` and `retryable`,
 * never the text; the text is for people and names the thing, the value and what was expected.
 */
export type FaultKind = 'config' | 'protocol' | 'link' | 'storage' | 'corruption';

export interface FaultOptions {
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** The common class; `kind` says who is at fault: the user, the peer, the network, the disk, the data. */
export class Fault extends Error {
  readonly kind: FaultKind;
  /** Stable, kebab-case: `journal-torn`, `disk-full`, `wrong-size`. */
  readonly code: string;
  readonly retryable: boolean;

  constructor(kind: FaultKind, code: string, message: string, options: FaultOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'Fault';
    this.kind = kind;
    this.code = code;
    this.retryable = options.retryable ?? kind === 'link';
  }
}

/** The user asked for something that cannot be: option, file or address. Exit code 2 at start. */
export class ConfigFault extends Fault {
  constructor(code: string, message: string, options?: FaultOptions) {
    super('config', code, message, options);
  }
}

/** The peer sent what the protocol forbids. Ends the session, never the process. */
export class ProtocolFault extends Fault {
  constructor(code: string, message: string, options?: FaultOptions) {
    super('protocol', code, message, options);
  }
}

/** The network or the peer went away. Retryable unless said otherwise. */
export class LinkFault extends Fault {
  constructor(code: string, message: string, options?: FaultOptions) {
    super('link', code, message, options);
  }
}

/** The disk, or the file system on it, refused. `code` is `disk-full`, `sync-failed`, `io-error`, … */
export class StorageFault extends Fault {
  constructor(code: string, message: string, options?: FaultOptions) {
    super('storage', code, message, options);
  }
}

/** Bytes that were good once and are not now, or that belong to something else. */
export class CorruptionFault extends Fault {
  constructor(code: string, message: string, options?: FaultOptions) {
    super('corruption', code, message, options);
  }
}

/** What a catch clause holds, as an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** Throws when a condition that the code relies on does not hold. A bug, never the peer's or the user's fault. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${what}`);
}
