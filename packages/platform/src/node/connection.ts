/**
 * A Connection over a net.Socket.
 *
 * Always holds: what is sent in one turn leaves in one write; while a write is under way the rest collects
 * for the next one; `closed` is called once, and after it, and after `destroy`, nothing else but that.
 * Must not know: how the socket came to be (network.ts), what the bytes mean.
 */
import type { Socket } from 'node:net';
import type { Fault } from '../errors.js';
import type { Connection, ReceiveOptions, Receiver } from '../network.js';
import { HIGH_WATER_BYTES, LOW_WATER_BYTES } from '../watermarks.js';
import type { BusyPoll } from './busy-poll.js';
import { linkFault } from './network-faults.js';
import { type Outgoing, SendQueue } from './send-queue.js';

/** What goes into one write; more would make `queuedBytes` fall in jumps. */
const WRITE_BYTES = 256 * 1024;

/** What a receiver may wish of the memory that chunks come in. */
export interface ChunkMemory {
  count(): void;
}

const NO_CHOICE: ChunkMemory = { count: () => undefined };

/** The socket's incoming side: chunks come in through `arrived` of the connection. */
export class NodeConnection implements Connection {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #memory: ChunkMemory;
  readonly #poll: BusyPoll | null;
  readonly #queue = new SendQueue();
  #receiver: Receiver | null = null;
  #started = false;
  #paused = false;
  #queuedBytes = 0;
  #congested = false;
  #flushDue = false;
  #writing = false;
  #ending = false;
  #destroyed = false;
  #peerEnded = false;
  #closed = false;
  #closedTold = false;
  #error: Fault | null = null;

  /** Takes the socket over; it must be paused, allow half-open, and hand what it reads to `arrived`. */
  constructor(socket: Socket, peer: string, memory: ChunkMemory = NO_CHOICE, poll: BusyPoll | null = null) {
    this.#socket = socket;
    this.#memory = memory;
    this.#poll = poll;
    this.peer = peer;
    socket.on('error', (error) => {
      this.#error ??= linkFault('connection to', peer, error);
    });
    socket.on('end', () => {
      if (this.#destroyed || this.#peerEnded) return;
      this.#peerEnded = true;
      this.#receiver?.ended();
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#destroyed = true;
      this.#tellClosed();
    });
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get congested(): boolean {
    return this.#congested;
  }

  start(receiver: Receiver, options?: ReceiveOptions): void {
    this.#receiver = receiver;
    if (options?.counted === true) this.#memory.count();
    if (this.#started) return;
    this.#started = true;
    if (this.#closed) process.nextTick(() => this.#tellClosed());
    else if (!this.#paused) this.#socket.resume();
  }

  /** For the socket's reading side only. */
  arrived(chunk: Buffer): void {
    this.#poll?.noted();
    if (!this.#destroyed) this.#receiver?.received(chunk);
  }

  send(chunk: Uint8Array): void {
    if (this.#destroyed || this.#ending) return;
    this.#queue.add(chunk);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes > HIGH_WATER_BYTES) this.#congested = true;
    if (this.#writing) return;
    if (this.#queue.bytes > WRITE_BYTES) this.#flush();
    else if (!this.#flushDue) {
      this.#flushDue = true;
      process.nextTick(flushLater, this);
    }
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    if (this.#started) this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#started && !this.#destroyed) this.#socket.resume();
  }

  end(): void {
    if (this.#destroyed || this.#ending) return;
    this.#ending = true;
    if (this.#writing) return;
    this.#flush();
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#socket.destroy();
  }

  /** For the flush at the end of the turn only. */
  flushDue(): void {
    this.#flushDue = false;
    if (!this.#writing && !this.#destroyed) this.#flush();
  }

  #flush(): void {
    if (this.#queue.bytes > 0) {
      this.#writing = true;
      const outgoing = this.#queue.take(WRITE_BYTES);
      this.#write(outgoing);
    } else if (this.#ending) this.#socket.end();
  }

  #write(outgoing: Outgoing): void {
    const { pieces } = outgoing;
    const last = pieces.length - 1;
    const socket = this.#socket;
    const written = (error: Error | null | undefined): void => this.#written(outgoing, error ?? null);
    if (last > 0) socket.cork();
    for (let index = 0; index < last; index += 1) socket.write(pieces[index] ?? EMPTY);
    socket.write(pieces[last] ?? EMPTY, written);
    if (last > 0) socket.uncork();
  }

  #written(outgoing: Outgoing, error: Error | null): void {
    this.#writing = false;
    this.#queuedBytes -= outgoing.bytes;
    // After a failed write the kernel may still refer to the memory: it is left to the garbage collector.
    if (error !== null || this.#destroyed) return;
    SendQueue.done(outgoing);
    // More may have come in this turn: the flush at its end takes that along.
    this.#flush();
    if (this.#congested && this.#queuedBytes < LOW_WATER_BYTES) {
      this.#congested = false;
      this.#receiver?.drained();
    }
  }

  #tellClosed(): void {
    if (this.#closedTold || this.#receiver === null) return;
    this.#closedTold = true;
    this.#receiver.closed(this.#error);
  }
}

const EMPTY = Buffer.alloc(0);

function flushLater(connection: NodeConnection): void {
  connection.flushDue();
}
