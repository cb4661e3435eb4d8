/**
 * Byte streams as the core sees them. A Connection hands over chunks as they arrive and takes chunks to
 * send; sends made in one turn leave in one system call.
 *
 * Always holds:
 *  - A chunk handed to `received` is never written again by the connection: the receiver may keep
 *    slices of it for as long as it likes (that is how payloads travel without being copied), unless it
 *    asked for chunks that are counted.
 *  - A chunk given to `send` must not be changed until it has left; nobody tells when that is, so the
 *    sender must not reuse it at all. Small chunks (see SMALL_CHUNK_BYTES) are copied at once, counted
 *    memory is held until it has left.
 *  - `closed` is called exactly once, after it nothing else is.
 */
import { LinkFault } from './errors.js';

export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** The longest path of a Unix socket: what sun_path holds on Linux, without the closing zero byte. */
export const MAX_SOCKET_PATH_BYTES = 107;

/** Chunks below this size are copied into the batch by `send`, so their memory may be reused at once. */
export const SMALL_CHUNK_BYTES = 512;

export interface Receiver {
  received(chunk: Buffer): void;
  /** `queuedBytes` has fallen below the low-water mark after having been above the high-water mark. */
  drained(): void;
  /** The peer sends no more; our side may still send. */
  ended(): void;
  /** The connection is gone; `error` is null when it went in an orderly way. */
  closed(error: Error | null): void;
}

export interface ReceiveOptions {
  /**
   * Chunks are counted: their memory is used again when `received` has returned and nobody holds a slice of it
   * (see `holdBytes`). For receivers that keep payload for a time, or not at all: it spares the garbage collector as
   * many bytes as arrive. Only a wish.
   */
  readonly counted?: boolean;
}

export interface Connection {
  /** Who is at the other end, for people. */
  readonly peer: string;
  /** Bytes given to `send` that have not left yet. */
  readonly queuedBytes: number;
  /** True while `queuedBytes` is above the high-water mark (1 MiB): stop producing, wait for `drained`. */
  readonly congested: boolean;
  /** Starts delivery. Until it is called nothing is read; call it once. A later call hands the stream over to another receiver. */
  start(receiver: Receiver, options?: ReceiveOptions): void;
  /** Queues bytes; they leave at the end of this turn together with what else was queued. Dropped silently once closed. */
  send(chunk: Uint8Array): void;
  /** Stops and resumes reading: back-pressure on the peer. A chunk already under way may still arrive. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then tells the peer that no more will come. */
  end(): void;
  /** Gone now, whatever is queued. */
  destroy(): void;
}

export interface Listener {
  /** Where it really listens: the port is filled in when 0 was asked for. */
  readonly address: Address;
  /** Accepts no more; connections that are open stay. Removes a Unix socket's name. */
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly timeoutMs: number;
  /** For TLS once it comes; plain when left out. */
  readonly signal?: AbortSignal;
}

export interface Network {
  /** Throws a LinkFault (`connect-refused`, `connect-timeout`, `connect-failed`) when it cannot be had. */
  connect(address: Address, options: ConnectOptions): Promise<Connection>;
  /** Throws a LinkFault (`address-in-use`, retryable, or `address-not-allowed`) when it cannot listen there. */
  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener>;
}

/** `host:port`, `[v6]:port` or the socket's path. */
export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Names the option that gave the address in front of what is wrong with it. */
export async function listeningFor<T>(option: string, listening: Promise<T>): Promise<T> {
  try {
    return await listening;
  } catch (thrown) {
    if (!(thrown instanceof LinkFault)) throw thrown;
    const { code, message, retryable } = thrown;
    throw new LinkFault(code, `${option}: ${message}`, { retryable, cause: thrown });
  }
}

/** True for addresses that only this machine can reach. */
export function isLocalAddress(address: Address): boolean {
  return (
    address.kind === 'unix' || address.host === 'localhost' || address.host === '::1' || /^127\./.test(address.host)
  );
}
