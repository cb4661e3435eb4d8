/**
 * One end of a simulated connection, and the wire from it to the other end.
 *
 * Always holds, per direction: bytes arrive in order and unchanged, whatever the latency and the cuts; at
 * most WINDOW_BYTES are on the wire or waiting at a receiver that is paused, frozen or without power, the rest
 * stays queued at the sender.
 */
import type { Clock } from '../clock.js';
import { CountedSlab, holdSlice, releaseSlice } from '../counted-memory.js';
import { type Fault, LinkFault } from '../errors.js';
import { type Connection, type ReceiveOptions, type Receiver, SMALL_CHUNK_BYTES } from '../network.js';
import { HIGH_WATER_BYTES, LOW_WATER_BYTES } from '../watermarks.js';
import type { LinkConditions } from './link-conditions.js';
import { takeBytes } from './page-memory.js';

/** What the kernels at both ends buffer together. */
const WINDOW_BYTES = 256 * 1024;
/** What one read takes from the kernel. */
const LARGEST_PIECE_BYTES = 64 * 1024;
/** Of a wire that takes time, what it takes in this time arrives at once. */
const LONGEST_PIECE_MS = 10;

/** An end of a connection, with what only the machine it is on can do. */
export interface SimConnection extends Connection {
  /**
   * The machine is without power: this end is gone and tells nobody. After `backAfterMs` the machine is back and
   * answers what comes for the connection, and what came meanwhile, with a reset.
   */
  vanish(backAfterMs: number): void;
}

/** What travels: bytes, the end of the stream, or the news that the other side is gone. */
type Parcel = Buffer | 'end' | 'reset';

export class End implements SimConnection {
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
  /** When the wire has taken the last parcel, and when that arrives: later ones never overtake it. */
  #wireBusyUntilMs = 0;
  #lastArrivalMs = 0;

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
  /** Why it went, until the receiver has been told. */
  #news: { readonly fault: Fault | null } | null = null;
  #answersNothing = false;
  #hasUnanswered = false;

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
    if (options?.counted === true) this.#counted = true;
    if (this.#gone) this.#tellNews();
    else this.#scheduleDelivery();
  }

  send(chunk: Uint8Array): void {
    if (this.#gone || this.#ending || chunk.length === 0) return;
    // Small chunks are copied, large ones are not: a sender that reuses their memory is to be found out.
    const kept =
      chunk.length < SMALL_CHUNK_BYTES ? Buffer.from(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    holdSlice(kept);
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
    if (!this.#endSent) this.#putOnWire(['end'], 0);
    this.#leave(null);
  }

  reset(): void {
    this.#leave(new LinkFault('connection-reset', `connection to ${this.peer}: connection reset by peer`));
  }

  vanish(backAfterMs: number): void {
    this.#receiver = null;
    this.#leave(null);
    this.answerNothing();
    if (backAfterMs === Infinity) return;
    this.#clock.after(backAfterMs, () => {
      this.#answersNothing = false;
      if (this.#hasUnanswered) this.#putOnWire(['reset'], 0);
    });
  }

  /** For the test: what arrives after this end is gone is not answered with a reset. */
  answerNothing(): void {
    this.#answersNothing = true;
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
    void this.#sendSoon();
  }

  async #sendSoon(): Promise<void> {
    await Promise.resolve();
    this.#sendDue = false;
    this.#fillWire();
  }

  #fillWire(): void {
    const other = this.#other;
    if (this.#gone || other === null) return;
    const room = WINDOW_BYTES - other.#wireBytes - other.#inboxBytes;
    const bytes = this.#takeQueued(room);
    const { bytesPerMs } = this.#conditions;
    const largest = Math.min(LARGEST_PIECE_BYTES, bytesPerMs * LONGEST_PIECE_MS);
    for (let at = 0; at < bytes.length;) {
      const parcels: Buffer[] = [];
      const from = at;
      do {
        const limit = Math.max(1, Math.floor(Math.min(this.#conditions.fragmentBytes(), largest)));
        parcels.push(bytes.subarray(at, at + limit));
        at = Math.min(at + limit, bytes.length);
        // Pieces that arrive at the same time travel together.
      } while (at < bytes.length && bytesPerMs === Infinity);
      this.#putOnWire(parcels, at - from);
    }
    if (this.#toSend[0] === 'end') {
      this.#toSend = [];
      this.#endSent = true;
      this.#putOnWire(['end'], 0);
      this.#leaveIfDone();
    }
    if (this.#congested && this.#queuedBytes < LOW_WATER_BYTES) {
      this.#congested = false;
      this.#receiver?.drained();
    }
  }

  /** Up to `most` bytes of what waits to be sent, copied as a kernel does: they are no longer in the sender's memory. */
  #takeQueued(most: number): Buffer {
    const limit = Math.min(most, this.#queuedBytes);
    if (limit <= 0) return NOTHING;
    const bytes = takeBytes(limit);
    let done = 0;
    let whole = 0;
    while (done < limit) {
      const next = this.#toSend[whole];
      if (next === undefined || next === 'end') break;
      const part = Math.min(next.length, limit - done);
      next.copy(bytes, done, 0, part);
      done += part;
      if (part < next.length) {
        this.#toSend[whole] = next.subarray(part);
      } else {
        releaseSlice(next);
        whole += 1;
      }
    }
    this.#toSend.splice(0, whole);
    this.#queuedBytes -= done;
    return bytes;
  }

  #putOnWire(parcels: readonly Parcel[], lengthBytes: number): void {
    const other = this.#other;
    if (other === null) return;
    const { latencyMs, bytesPerMs, jitterMs } = this.#conditions;
    const nowMs = this.#clock.monotonicMs();
    this.#wireBusyUntilMs = Math.max(nowMs, this.#wireBusyUntilMs) + lengthBytes / bytesPerMs;
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, this.#wireBusyUntilMs + latencyMs + jitterMs());
    other.#wireBytes += lengthBytes;
    this.#clock.after(this.#lastArrivalMs - nowMs, () => other.#arrive(parcels, lengthBytes));
  }

  #arrive(parcels: readonly Parcel[], lengthBytes: number): void {
    if (this.#gone) {
      if (this.#answersNothing) {
        // Unacknowledged: it goes on taking room at the sender, who sends it again once somebody answers.
        this.#hasUnanswered ||= lengthBytes > 0;
        return;
      }
      this.#wireBytes -= lengthBytes;
      // Nobody is here any more: whoever sends to us learns it.
      if (lengthBytes > 0) this.#putOnWire(['reset'], 0);
      return;
    }
    this.#wireBytes -= lengthBytes;
    this.#inbox.push(...parcels);
    this.#inboxBytes += lengthBytes;
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
    this.#news = { fault };
    this.#onGone();
    this.#tellNews();
  }

  #tellNews(): void {
    // As on a real socket the news comes in a turn of its own.
    this.#clock.after(0, () => {
      const news = this.#news;
      if (news === null || this.#receiver === null) return;
      this.#news = null;
      this.#receiver.closed(news.fault);
    });
  }
}

const NOTHING = Buffer.alloc(0);

/** Counted memory is spoiled as soon as nobody holds it: who should have held it is found out. */
function handOverCounted(part: Buffer, receiver: Receiver): void {
  const slab = takeSlab(part.length);
  slab.memory.set(part);
  receiver.received(slab.memory.subarray(0, part.length));
  slab.release();
}

const SPOILED = 0xdb;
const LEAST_SLAB_BYTES = 512;
/** Of each size, so many lie spoiled before one is used again. */
const SPOILED_SLABS = 32;
const spoiledSlabs = new Map<number, CountedSlab[]>();

/** Held once, with anything in it. */
function takeSlab(lengthBytes: number): CountedSlab {
  let sizeBytes = LEAST_SLAB_BYTES;
  while (sizeBytes < lengthBytes) sizeBytes *= 2;
  let spoiled = spoiledSlabs.get(sizeBytes);
  if (spoiled === undefined) spoiledSlabs.set(sizeBytes, (spoiled = []));
  const again = spoiled.length > SPOILED_SLABS ? spoiled.shift() : undefined;
  again?.hold();
  const lot = spoiled;
  return (
    again ??
    new CountedSlab(sizeBytes, (slab) => {
      slab.memory.fill(SPOILED);
      lot.push(slab);
    })
  );
}
