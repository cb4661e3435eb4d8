/**
 * A connection that goes through another one: whoever stands between a process and the wire says only what is different there.
 *
 * Always holds: what a subclass does not override is passed on unchanged, in both directions: calls to the inner connection,
 * what happens on that one to the receiver.
 */
import type { ReceiveOptions, Receiver } from '../network.js';
import type { SimConnection } from './link.js';

export class ForwardingConnection implements SimConnection, Receiver {
  readonly inner: SimConnection;
  #receiver: Receiver | null = null;

  constructor(inner: SimConnection) {
    this.inner = inner;
  }

  get peer(): string {
    return this.inner.peer;
  }
  get queuedBytes(): number {
    return this.inner.queuedBytes;
  }
  get congested(): boolean {
    return this.inner.congested;
  }

  start(receiver: Receiver, options?: ReceiveOptions): void {
    this.#receiver = receiver;
    this.inner.start(this, options);
  }
  send(chunk: Uint8Array): void {
    this.inner.send(chunk);
  }
  pause(): void {
    this.inner.pause();
  }
  resume(): void {
    this.inner.resume();
  }
  end(): void {
    this.inner.end();
  }
  destroy(): void {
    this.inner.destroy();
  }
  vanish(backAfterMs: number): void {
    this.inner.vanish(backAfterMs);
  }

  /** From the inner connection, as the rest below. */
  received(chunk: Buffer): void {
    this.#receiver?.received(chunk);
  }
  drained(): void {
    this.#receiver?.drained();
  }
  ended(): void {
    this.#receiver?.ended();
  }
  closed(error: Error | null): void {
    this.#receiver?.closed(error);
  }
}
