/**
 * A connection read as a stream, for negotiation: so many bytes at a time, awaited. Transmission has
 * readers of its own; the connection is handed over to them with what has come in already.
 *
 * Always holds: no more is kept than was asked for and what one pause lets through; what came before the
 * peer's end or a loss can still be taken, after `fail` nothing can.
 */
import { type Connection, type Fault, LinkFault, type ReceiveOptions, type Receiver } from '@rephub/platform';

/** Kept beyond what is waited for before the connection is paused. */
const AHEAD_BYTES = 64 * 1024;

export class StreamReader implements Receiver {
  readonly connection: Connection;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #wanted = 0;
  #paused = false;
  #failure: Error | null = null;
  /** Why no more will come; what has come is good. */
  #end: Error | null = null;
  #ended = false;
  #closed = false;
  #wake: (() => void) | null = null;
  #closedError: Error | null = null;
  #onClosed: (() => void) | null = null;

  /** Starts the connection. `onClosed` hears once that it is gone, unless it was handed over before. */
  constructor(connection: Connection, onClosed: () => void = () => undefined) {
    this.connection = connection;
    this.#onClosed = onClosed;
    connection.start(this);
  }

  /** Exactly so many bytes. Rejected with the failure, or `connection-ended` when they do not come. */
  async take(bytes: number): Promise<Buffer> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#bytes >= bytes) return this.#cut(bytes);
      if (this.#end !== null) throw this.#end;
      await this.#more(bytes);
    }
  }

  /** Reads so many bytes off. */
  async skip(bytes: number): Promise<void> {
    let left = bytes;
    while (left > 0) {
      const step = Math.min(left, AHEAD_BYTES);
      await this.take(step);
      left -= step;
    }
  }

  /** Resolves when the peer has taken most of what was sent, or never will. Rejected with the failure. */
  async uncongested(): Promise<void> {
    while (this.connection.congested && !this.#closed) {
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Makes every `take`, waiting or to come, fail with this. */
  fail(fault: Error): void {
    this.#failure ??= fault;
    this.#wakeUp();
  }

  /** Gives the connection, and what has come in and was not taken, to another receiver. */
  handOver(receiver: Receiver, options?: ReceiveOptions): void {
    const { connection } = this;
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#bytes = 0;
    this.#onClosed = null;
    connection.start(receiver, options);
    for (const chunk of chunks) receiver.received(chunk);
    if (this.#ended) receiver.ended();
    if (this.#closed) receiver.closed(this.#closedError);
    else if (this.#paused) connection.resume();
  }

  received(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (!this.#paused && this.#bytes > this.#wanted + AHEAD_BYTES) {
      this.#paused = true;
      this.connection.pause();
    }
    if (this.#bytes >= this.#wanted) this.#wakeUp();
  }

  drained(): void {
    this.#wakeUp();
  }

  ended(): void {
    this.#ended = true;
    this.#end ??= new LinkFault('connection-ended', `${this.connection.peer} ended the connection`);
    this.#wakeUp();
  }

  closed(error: Error | null): void {
    this.#closed = true;
    this.#closedError = error;
    this.#end ??= error ?? new LinkFault('connection-ended', `${this.connection.peer} closed the connection`);
    this.#wakeUp();
    const onClosed = this.#onClosed;
    this.#onClosed = null;
    onClosed?.();
  }

  #more(bytes: number): Promise<void> {
    this.#wanted = bytes;
    if (this.#paused) {
      this.#paused = false;
      this.connection.resume();
    }
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  #cut(bytes: number): Buffer {
    this.#bytes -= bytes;
    const first = this.#chunks[0];
    if (first !== undefined && first.length > bytes) {
      this.#chunks[0] = first.subarray(bytes);
      return first.subarray(0, bytes);
    }
    const parts: Buffer[] = [];
    let left = bytes;
    while (left > 0) {
      const chunk = this.#chunks.shift();
      if (chunk === undefined) break;
      if (chunk.length > left) this.#chunks.unshift(chunk.subarray(left));
      parts.push(chunk.length > left ? chunk.subarray(0, left) : chunk);
      left -= Math.min(left, chunk.length);
    }
    const only = parts[0];
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
  }
}

/** The Fault that ended a negotiation, whatever was thrown. */
export function isFault(thrown: unknown): thrown is Fault {
  return thrown instanceof Error && 'kind' in thrown && 'code' in thrown;
}
