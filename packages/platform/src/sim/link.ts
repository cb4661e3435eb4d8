/**
 * One simulated connection: two ends and the wire between them, one way each.
 *
 * Always holds, per direction: bytes arrive in order and unchanged, whatever the latency and the cuts; at
 * most WINDOW_BYTES are on the wire or waiting at a paused receiver, the rest stays queued at the sender.
 * Must not know: addresses, listeners.
 */
import type { Clock } from '../clock.js';
import { type Fault, LinkFault } from '../errors.js';
import { CountedSlab } from '../counted-memory.js';
import { type Connection, type ReceiveOptions, type Receiver, SMALL_CHUNK_BYTES } from '../network.js';
import { HIGH_WATER_BYTES, LOW_WATER_BYTES } from '../watermarks.js';

/** What the kernels at both ends buffer together. */
const WINDOW_BYTES = 256 * 1024;

/** How a wire behaves; may be changed at any time. */
export interface LinkConditions {
  latencyMs: number;
  /** No limit when Infinity. */
  bytesPerMs: number;
  /** The largest piece that arrives at once; pieces as sent when Infinity. Called for each piece. */
  fragmentBytes: () => number;
}

export type Direction = 'to-server' | 'to-client';

/** A live simulated connection, seen by the test. */
export interface SimLink {
  readonly address: string;
  readonly client: Connection;
  readonly server: Connection;
  readonly isOpen: boolean;
  /** Bytes handed to the receiver in that direction so far. */
  deliveredBytes(direction: Direction): number;
  /** Both ends see a reset, now. */
  cut(): void;
  /** The reset comes as soon as `bytes` in all have been delivered in that direction, not one more. */
  cutAfter(direction: Direction, bytes: number): void;
  /** Nothing arrives any more and nobody is told: the half-open connection. */
  freeze(): void;
  /** What was held back arrives. */
  thaw(): void;
}

/** Makes both ends of a connection. */
export function makeLink(
  clock: Clock,
  conditions: LinkConditions,
  address: string,
  onClosed: (link: SimLink) => void,
): SimLink {
  return new Link(clock, conditions, address, onClosed);
}

class Link implements SimLink {
  readonly address: string;
  readonly client: End;
  readonly server: End;
  readonly #onClosed: (link: SimLink) => void;

  constructor(clock: Clock, conditions: LinkConditions, address: string, onClosed: (link: SimLink) => void) {
    this.address = address;
    this.#onClosed = onClosed;
    const ended = (): void => {
      if (!this.isOpen) this.#onClosed(this);
    };
    this.client = new End(clock, conditions, address, ended);
    this.server = new End(clock, conditions, `client of ${address}`, ended);
    this.client.join(this.server);
    this.server.join(this.client);
  }

  get isOpen(): boolean {
    return !this.client.isGone || !this.server.isGone;
  }

  deliveredBytes(direction: Direction): number {
    return this.#receiving(direction).deliveredBytes;
  }

  cut(): void {
    this.client.reset();
    this.server.reset();
  }

  cutAfter(direction: Direction, bytes: number): void {
    this.#receiving(direction).cutAfter(bytes, () => this.cut());
  }

  freeze(): void {
    this.client.setFrozen(true);
    this.server.setFrozen(true);
  }

  thaw(): void {
    this.client.setFrozen(false);
    this.server.setFrozen(false);
  }

  #receiving(direction: Direction): End {
    return direction === 'to-server' ? this.server : this.client;
  }
}

/** What travels: bytes, the end of the stream, or the news that the other side is gone. */
type Parcel = Buffer | 'end' | 'reset';

class End implements Connection {
  readonly peer: string;
  readonly #clock: Clock;
  readonly #conditions: LinkConditions;
  readonly #onGone: () => void;
  #other: End | null = null;
  #receiver: Receiver | null = null;
  #counted = false;

  #toSend: (Buffer | 'end')[] = [];
  #queuedBytes = 0;
  #congested = false;
  #sendDue = false;
  #ending = false;
  #endSent = false;
  /** When the last parcel put on the wire arrives: later ones never overtake it. */
  #wireBusyUntilMs = 0;

  #inbox: Parcel[] = [];
  #inboxBytes = 0;
  #wireBytes = 0;
  #paused = false;
  #frozen = false;
  #deliverDue = false;
  #peerEnded = false;
  #delivered = 0;
  #cutAt = Infinity;
  #cut: (() => void) | null = null;

  #gone = false;

  constructor(clock: Clock, conditions: LinkConditions, peer: string, onGone: () => void) {
    this.#clock = clock;
    this.#conditions = conditions;
    this.peer = peer;
    this.#onGone = onGone;
  }

  join(other: End): void {
    this.#other = other;
  }

  get isGone(): boolean {
    return this.#gone;
  }
  get deliveredBytes(): number {
    return this.#delivered;
  }
  get queuedBytes(): number {
    return this.#queuedBytes;
  }
  get congested(): boolean {
    return this.#congested;
  }

  start(receiver: Receiver, options?: ReceiveOptions): void {
    this.#receiver = receiver;
    this.#counted = options?.counted === true;
    if (this.#gone) return;
    this.#scheduleDelivery();
  }

  send(chunk: Uint8Array): void {
    if (this.#gone || this.#ending || chunk.length === 0) return;
    // Small chunks are copied, large ones are not: a sender that reuses their memory is to be found out.
    const kept =
      chunk.length < SMALL_CHUNK_BYTES ? Buffer.from(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    this.#toSend.push(kept);
    this.#queuedBytes += kept.length;
    if (this.#queuedBytes > HIGH_WATER_BYTES) this.#congested = true;
    this.#scheduleSending();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#scheduleDelivery();
  }

  end(): void {
    if (this.#gone || this.#ending) return;
    this.#ending = true;
    this.#toSend.push('end');
    this.#scheduleSending();
  }

  destroy(): void {
    if (this.#gone) return;
    // The other side sees the stream end, or a reset when it goes on sending.
    if (!this.#endSent) this.#putOnWire('end');
    this.#leave(null);
  }

  reset(): void {
    this.#leave(new LinkFault('connection-reset', `connection to ${this.peer}: connection reset by peer`));
  }

  setFrozen(frozen: boolean): void {
    this.#frozen = frozen;
    if (frozen) return;
    this.#scheduleDelivery();
    this.#scheduleSending();
  }

  cutAfter(bytes: number, cut: () => void): void {
    this.#cutAt = bytes;
    this.#cut = cut;
    if (this.#delivered >= bytes) this.#clock.after(0, cut);
  }

  #scheduleSending(): void {
    if (this.#sendDue || this.#gone) return;
    this.#sendDue = true;
    // After the turn, as the real one, so that a sender may go on with what it is doing.
    queueMicrotask(() => {
      this.#sendDue = false;
      this.#fillWire();
    });
  }

  #fillWire(): void {
    const other = this.#other;
    if (this.#gone || other === null) return;
    while (this.#toSend.length > 0) {
      const [next] = this.#toSend;
      if (next === undefined) break;
      if (next === 'end') {
        this.#toSend.shift();
        this.#endSent = true;
        this.#putOnWire('end');
        this.#leaveIfDone();
        break;
      }
      if (other.#wireBytes + other.#inboxBytes >= WINDOW_BYTES) break;
      this.#toSend.shift();
      const limit = Math.max(1, Math.min(this.#conditions.fragmentBytes(), WINDOW_BYTES));
      const piece = next.length > limit ? next.subarray(0, limit) : next;
      if (piece.length < next.length) this.#toSend.unshift(next.subarray(limit));
      this.#queuedBytes -= piece.length;
      // As a kernel does: what is on the wire is no longer in the sender's memory.
      this.#putOnWire(Buffer.from(piece));
    }
    if (this.#congested && this.#queuedBytes < LOW_WATER_BYTES) {
      this.#congested = false;
      this.#receiver?.drained();
    }
  }

  #putOnWire(parcel: Parcel): void {
    const other = this.#other;
    if (other === null) return;
    const length = typeof parcel === 'string' ? 0 : parcel.length;
    const nowMs = this.#clock.monotonicMs();
    const transmitMs = length / this.#conditions.bytesPerMs;
    this.#wireBusyUntilMs =
      Math.max(nowMs, this.#wireBusyUntilMs - this.#conditions.latencyMs) + transmitMs + this.#conditions.latencyMs;
    other.#wireBytes += length;
    this.#clock.after(this.#wireBusyUntilMs - nowMs, () => other.#arrive(parcel, length));
  }

  #arrive(parcel: Parcel, length: number): void {
    this.#wireBytes -= length;
    if (this.#gone) {
      // Nobody is here any more: whoever sends to us learns it.
      if (length > 0) this.#putOnWire('reset');
      return;
    }
    this.#inbox.push(parcel);
    this.#inboxBytes += length;
    this.#deliver();
  }

  #scheduleDelivery(): void {
    if (this.#deliverDue || this.#inbox.length === 0) return;
    this.#deliverDue = true;
    this.#clock.after(0, () => {
      this.#deliverDue = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    while (this.#inbox.length > 0 && this.#receiver !== null && !this.#frozen && !this.#gone) {
      const [parcel] = this.#inbox;
      if (parcel === undefined) break;
      if (parcel === 'reset') {
        this.reset();
        return;
      }
      if (this.#paused) break;
      this.#inbox.shift();
      if (parcel === 'end') {
        this.#peerEnded = true;
        this.#receiver.ended();
        this.#leaveIfDone();
      } else this.#handOver(parcel, this.#receiver);
    }
    if (!this.#gone) this.#other?.scheduleMore();
  }

  #handOver(parcel: Buffer, receiver: Receiver): void {
    this.#inboxBytes -= parcel.length;
    const allowed = this.#cutAt - this.#delivered;
    const part = parcel.length > allowed ? parcel.subarray(0, Math.max(0, allowed)) : parcel;
    this.#delivered += part.length;
    if (part.length > 0) {
      if (this.#counted) handOverCounted(part, receiver);
      else receiver.received(part);
    }
    if (this.#delivered >= this.#cutAt) this.#cut?.();
  }

  /** For the other end only: room on the wire has become free. */
  scheduleMore(): void {
    if (this.#toSend.length > 0) this.#scheduleSending();
  }

  #leaveIfDone(): void {
    if (this.#endSent && this.#peerEnded) this.#leave(null);
  }

  #leave(fault: Fault | null): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#toSend = [];
    this.#inbox = [];
    this.#inboxBytes = 0;
    this.#onGone();
    // As on a real socket the news comes in a turn of its own.
    this.#clock.after(0, () => this.#receiver?.closed(fault));
  }
}

/** Counted memory is spoiled as soon as nobody holds it: who should have held it is found out. */
function handOverCounted(part: Buffer, receiver: Receiver): void {
  const slab = new CountedSlab(part.length, ({ memory }) => memory.fill(SPOILED));
  slab.memory.set(part);
  receiver.received(slab.memory);
  slab.release();
}

const SPOILED = 0xdb;
