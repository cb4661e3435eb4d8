/**
 * One client in transmission: reads its requests, gives them to the device, writes the replies as they
 * come back, in any order.
 *
 * Always holds:
 *  - requests and bytes in flight are bounded: at the bound, or when the client does not read its replies,
 *    nothing more is read from it; nor while there is no room for the payload of which it has sent the beginning;
 *  - every request that reached the device comes back before `gone` is told;
 *  - after a fault the client gets nothing more, but the device's work is waited for;
 *  - chunks are counted: what is held back, and a write's payload until the write is completed, is held.
 * The hot path makes no objects: requests are pooled, headers are written into buffers used again.
 */
import {
  asError,
  type Claimant,
  type Connection,
  holdSlice,
  type PayloadBudget,
  type PayloadClaim,
  type Receiver,
  releaseBytes,
  releaseSlice,
} from '@rephub/platform';
import {
  ALLOCATION_CONTEXT,
  type BlockDevice,
  BlockRequest,
  Command,
  type Completion,
  NbdError,
} from '../block-device.js';
import { COMMAND_DISCONNECT } from '../wire/constants.js';
import { ReplyWriter } from '../wire/reply-writer.js';
import { RequestReader, type RequestSink } from '../wire/request-reader.js';
import { appendSlice, totalBytes } from '../wire/slices.js';
import { isFault } from '../wire/stream-reader.js';
import type { ServerFaultCode, ServerLimits } from './limits.js';
import type { Negotiated } from './negotiation.js';
import { checkRequest, checkStatusRange, type RequestRules, tellableError } from './request-check.js';
import { parseStatusSelection } from './status-selection.js';

/** What all clients of a server have under way. */
export interface ServerLoad {
  requestsInFlight: number;
  /** For payloads that have not come whole. */
  readonly payloads: PayloadBudget;
}

export interface TransmissionEvents {
  /** The client did, or met, what ends the connection. */
  fault(code: ServerFaultCode, message: string): void;
  /** All requests in flight are answered and no more are read: the connection may be ended. */
  finished(): void;
  /** The connection is closed and the device has given everything back. */
  gone(): void;
}

export class Transmission implements Receiver, RequestSink, Completion, Claimant {
  requestsInFlight = 0;
  bytesInFlight = 0;
  requestsDone = 0;
  /** Once there is room for a payload, it is read to its end. */
  readonly isHeldBack = false;
  readonly #connection: Connection;
  readonly #device: BlockDevice;
  readonly #rules: RequestRules;
  readonly #limits: ServerLimits;
  readonly #load: ServerLoad;
  readonly #events: TransmissionEvents;
  readonly #contexts: readonly string[];
  readonly #contextIds: readonly number[];
  readonly #reader: RequestReader;
  readonly #writer: ReplyWriter;
  readonly #pool: BlockRequest[] = [];
  /** The request being read, and the outcome of one that is not let through. */
  #current: BlockRequest | null = null;
  #currentBytes = 0;
  #refusal = 0;
  /** Of the payload that is being read, as far as it has not come with the chunk at hand. */
  readonly #claim: PayloadClaim;
  /** There is no room for that payload yet: nothing is read until there is. */
  #awaitsRoom = false;
  /** Chunks that came while reading is held back. */
  #held: Buffer[] = [];
  #holding = false;
  #reading = false;
  #state: 'open' | 'finishing' | 'finished' = 'open';
  #closed = false;
  /** The client sends nothing more: most are dead then. */
  #clientEnded = false;
  #goneTold = false;

  /** Counts what it has under way into `load` too. */
  constructor(
    connection: Connection,
    negotiated: Negotiated,
    limits: ServerLimits,
    load: ServerLoad,
    events: TransmissionEvents,
  ) {
    const { device } = negotiated.opened;
    this.#connection = connection;
    this.#device = device;
    this.#limits = limits;
    this.#load = load;
    this.#claim = load.payloads.claimFor(this);
    this.#events = events;
    this.#contexts = negotiated.contexts;
    this.#contextIds = negotiated.contexts.map((_, index) => index + 1);
    this.#rules = {
      sizeBytes: device.sizeBytes,
      abilities: device.abilities,
      limits: device.limits,
      framing: negotiated.framing,
      contexts: negotiated.contexts.length,
    };
    const { minimumBytes, maximumBytes } = device.limits;
    this.#reader = new RequestReader(this, negotiated.framing === 'extended', maximumBytes);
    this.#writer = new ReplyWriter(connection, negotiated.framing, device.sizeBytes, minimumBytes);
  }

  get isGone(): boolean {
    return this.#state === 'finished' || this.#clientEnded;
  }

  get arrivedBytes(): number {
    return this.#currentBytes;
  }

  admitted(): void {
    if (!this.#awaitsRoom) return;
    this.#awaitsRoom = false;
    this.#holding = false;
    this.#consumeHeld();
  }

  overdue(reason: string): void {
    this.#fault('payload-stalled', reason);
  }

  /** Reads no more; `finished` follows when what is in flight is answered. */
  finish(): void {
    if (this.#state !== 'open') return;
    this.#state = 'finishing';
    this.#dropHeld();
    this.#abandonCurrent();
    // What still comes is read and dropped, so that the client's end is seen.
    if (this.#holding) this.#connection.resume();
    this.#holding = false;
    this.#maybeFinished();
  }

  received(chunk: Buffer): void {
    if (this.#state !== 'open') return;
    if (this.#holding) {
      this.#keep(chunk, false);
      return;
    }
    this.#consume(chunk);
    // What completed within `submit` may have made room already.
    this.#maybeResume();
  }

  drained(): void {
    this.#maybeResume();
  }

  ended(): void {
    this.#clientEnded = true;
    if (this.#state !== 'open') return;
    // Requests held back have been sent whole; they are still answered.
    if (this.#holding) {
      this.#held.push(END);
      return;
    }
    if (!this.#reader.atBoundary) this.#fault('request-cut', 'the client ended in the middle of a request');
    else this.finish();
  }

  closed(error: Error | null): void {
    this.#closed = true;
    if (this.#state === 'open') {
      if (error !== null) this.#events.fault('link-error', error.message);
      else if (!this.#reader.atBoundary)
        this.#events.fault('request-cut', 'the client left in the middle of a request');
    }
    this.#state = 'finished';
    this.#dropHeld();
    this.#abandonCurrent();
    this.#maybeGone();
  }

  header(reader: RequestReader): boolean {
    this.#refusal = checkRequest(this.#rules, reader);
    if (this.#refusal !== 0 || (reader.length === 0 && reader.type !== Command.Flush)) return false;
    if (reader.type === COMMAND_DISCONNECT) return false;
    const request = this.#pool.pop() ?? new BlockRequest(this);
    request.command = reader.type as Command;
    request.flags = reader.flags & KNOWN_FLAGS;
    request.offset = reader.offset;
    request.length = reader.length;
    request.tagHigh = reader.cookieHigh;
    request.tagLow = reader.cookieLow;
    if (reader.type === Command.BlockStatus) request.contexts = this.#contexts;
    this.#current = request;
    this.#currentBytes = 0;
    return true;
  }

  payload(slice: Buffer): void {
    const request = this.#current;
    if (request === null) return;
    holdSlice(slice);
    appendSlice(request.data, slice, this.#currentBytes);
    this.#currentBytes += slice.length;
  }

  whole(reader: RequestReader): boolean {
    const request = this.#current;
    this.#current = null;
    this.#claim.giveBack();
    if (request !== null && request.command === Command.BlockStatus && !this.#select(request)) {
      this.#answerAtOnce(reader);
    } else if (request !== null) {
      this.requestsInFlight++;
      this.#load.requestsInFlight++;
      this.bytesInFlight += payloadOf(request);
      this.#submit(request);
    } else if (reader.type === COMMAND_DISCONNECT) {
      this.#clientEnded = true;
      this.finish();
      return false;
    } else {
      this.#answerAtOnce(reader);
    }
    if (this.#mustHold()) {
      this.#holding = true;
      this.#connection.pause();
      return false;
    }
    return true;
  }

  completed(request: BlockRequest): void {
    this.requestsInFlight--;
    this.#load.requestsInFlight--;
    this.bytesInFlight -= payloadOf(request);
    this.requestsDone++;
    if (this.#state !== 'finished') this.#reply(request);
    if (request.data.length > 0) releaseBytes(request.data);
    request.reset();
    this.#pool.push(request);
    this.#maybeResume();
    if (this.#state !== 'open') {
      this.#maybeFinished();
      this.#maybeGone();
    }
  }

  #consume(chunk: Buffer): void {
    this.#reading = true;
    let at = 0;
    try {
      at = this.#reader.read(chunk, 0);
    } catch (thrown) {
      const error = asError(thrown);
      this.#fault(isFault(error) ? (error.code as ServerFaultCode) : 'internal', error.message);
      at = chunk.length;
    }
    this.#reading = false;
    if (this.#state !== 'open') return;
    if (at < chunk.length) this.#keep(chunk.subarray(at), true);
    else if (this.#current !== null && !this.#claim.take(this.#reader.payloadBytes)) this.#awaitRoom();
  }

  #awaitRoom(): void {
    this.#awaitsRoom = true;
    this.#holding = true;
    this.#connection.pause();
  }

  #keep(chunk: Buffer, first: boolean): void {
    holdSlice(chunk);
    if (first) this.#held.unshift(chunk);
    else this.#held.push(chunk);
  }

  /** Block status with a payload asks about some contexts only. False: it is refused. */
  #select(request: BlockRequest): boolean {
    if (request.data.length === 0) return true;
    const selection = parseStatusSelection(Buffer.concat(request.data), this.#contexts);
    releaseBytes(request.data);
    request.data = [];
    this.#refusal =
      selection === null ? NbdError.Einval : checkStatusRange(this.#rules, request.offset, selection.lengthBytes);
    if (selection === null || this.#refusal !== 0) {
      request.reset();
      this.#pool.push(request);
      return false;
    }
    request.length = selection.lengthBytes;
    request.contexts = selection.contexts;
    return true;
  }

  /** The ids of the contexts that a request is about. */
  #idsOf(request: BlockRequest): readonly number[] {
    if (request.contexts === this.#contexts) return this.#contextIds;
    return request.contexts.map((context) => this.#contexts.indexOf(context) + 1);
  }

  #dropHeld(): void {
    releaseBytes(this.#held);
    this.#held = [];
  }

  #submit(request: BlockRequest): void {
    try {
      this.#device.submit(request);
    } catch (thrown) {
      // A device that throws has not taken the request; otherwise its client would never be gone.
      this.requestsInFlight--;
      this.#load.requestsInFlight--;
      this.bytesInFlight -= payloadOf(request);
      this.#fault('internal', `the device threw: ${asError(thrown).message}`);
    }
  }

  #answerAtOnce(reader: RequestReader): void {
    this.requestsDone++;
    if (this.#refusal === 0 && reader.type === Command.Read) {
      this.#writer.emptyRead(reader.offset, reader.cookieHigh, reader.cookieLow);
    } else {
      this.#writer.status(this.#refusal, reader.offset, reader.cookieHigh, reader.cookieLow);
    }
  }

  #reply(request: BlockRequest): void {
    const { command } = request;
    const error = request.error === 0 ? 0 : tellableError(command, request.flags, request.error);
    request.error = error;
    if (error === 0 && command === Command.Read) {
      if (totalBytes(request.data) === request.length) {
        this.#writer.read(request);
        return;
      }
      this.#events.fault('internal', `the device answered a read of ${request.length} bytes with another length`);
      request.error = NbdError.Eio;
      this.#writer.readError(request);
    } else if (command === Command.Read) {
      this.#writer.readError(request);
    } else if (error === 0 && command === Command.BlockStatus) {
      if (isAnswered(request)) {
        this.#writer.blockStatus(request, this.#idsOf(request));
        return;
      }
      this.#events.fault('internal', 'the device left a metadata context unanswered');
      this.#writer.status(NbdError.Eio, request.offset, request.tagHigh, request.tagLow);
    } else {
      this.#writer.status(error, request.offset, request.tagHigh, request.tagLow);
    }
  }

  #mustHold(): boolean {
    return (
      this.requestsInFlight >= this.#limits.requestsInFlight ||
      this.bytesInFlight >= this.#limits.bytesInFlight ||
      this.#connection.congested
    );
  }

  /** Goes on reading when there is room again: with some slack, so that a client at its bound is not paused for every request. */
  #maybeResume(): void {
    while (this.#holding && !this.#awaitsRoom && !this.#reading && this.#hasRoom()) {
      this.#holding = false;
      this.#consumeHeld();
    }
  }

  #hasRoom(): boolean {
    const { requestsInFlight, bytesInFlight } = this.#limits;
    const isFull = this.requestsInFlight > requestsInFlight / 2 || this.bytesInFlight > bytesInFlight / 2;
    return !isFull && !this.#connection.congested;
  }

  #consumeHeld(): void {
    while (this.#state === 'open') {
      const chunk = this.#held.shift();
      if (chunk === undefined) {
        this.#connection.resume();
        return;
      }
      if (chunk === END) {
        this.ended();
      } else {
        this.#consume(chunk);
        releaseSlice(chunk);
      }
      if (this.#holding) return;
    }
  }

  #fault(code: ServerFaultCode, message: string): void {
    if (this.#state === 'finished') return;
    this.#state = 'finished';
    this.#dropHeld();
    this.#abandonCurrent();
    this.#events.fault(code, message);
    this.#connection.destroy();
  }

  #abandonCurrent(): void {
    this.#awaitsRoom = false;
    this.#claim.giveBack();
    const request = this.#current;
    this.#current = null;
    if (request === null) return;
    releaseBytes(request.data);
    request.reset();
  }

  #maybeFinished(): void {
    if (this.#state !== 'finishing' || this.requestsInFlight > 0) return;
    this.#state = 'finished';
    this.#events.finished();
  }

  #maybeGone(): void {
    if (!this.#closed || this.requestsInFlight > 0 || this.#goneTold) return;
    this.#goneTold = true;
    this.#events.gone();
  }
}

/** Stands in the queue of held chunks for the client's end. */
const END = Buffer.alloc(0);
const KNOWN_FLAGS = 0x1f;

/** Of allocation nothing need be known; any other context would be told that all is clean. */
function isAnswered(request: BlockRequest): boolean {
  return request.contexts.every(
    (context, index) => context === ALLOCATION_CONTEXT || (request.extents[index]?.runs.length ?? 0) >= 2,
  );
}

/** Bytes that a request holds, or will when it comes back. */
function payloadOf(request: BlockRequest): number {
  return request.command === Command.Read || request.command === Command.Write ? request.length : 0;
}
