/**
 * What replies mean to the requests in flight: checks every reply against the request it answers, gathers
 * its payload, and completes it.
 *
 * Always holds: a reply that cannot be an answer to its request throws a ProtocolFault, and the connection
 * that it came on is not to be trusted with anything more; payload outside of the request is never taken.
 */
import { holdSlice, ProtocolFault } from '@rephub/platform';
import { type BlockRequest, Command, CommandFlag, NbdError } from '../block-device.js';
import { Chunk, CHUNK_ERROR_BIT, CHUNK_FLAG_DONE, type Framing, readUint64 } from '../wire/constants.js';
import type { ReplyReader, ReplySink } from '../wire/reply-reader.js';
import { appendSlice } from '../wire/slices.js';
import { appendZeroes } from '../zeroes.js';
import type { InFlight } from './in-flight.js';
import { ReadParts } from './read-parts.js';

/** As the specification asks of servers: 2^20 extents. */
const MAX_STATUS_BYTES = 16 * 1024 * 1024 + 8;
const MAX_ERROR_BYTES = 16 * 1024;
/** Beyond this, and one for every 512 bytes, a read's answer is an attack on our memory. */
const FREE_CHUNKS = 1024;

const KNOWN_ERRORS: ReadonlySet<number> = new Set(Object.values(NbdError));

export class ReplyHandler implements ReplySink {
  readonly #inFlight: InFlight;
  readonly #framing: Framing;
  /** Names of the negotiated contexts by the server's id. */
  readonly #contextNames: ReadonlyMap<number, string>;
  #slot = 0;
  #into: Buffer[] = NOWHERE;
  #intoBytes = 0;

  constructor(inFlight: InFlight, framing: Framing, contextNames: ReadonlyMap<number, string>) {
    this.#inFlight = inFlight;
    this.#framing = framing;
    this.#contextNames = contextNames;
  }

  simple(reader: ReplyReader): number {
    const request = this.#find(reader);
    if (reader.error !== 0) return 0;
    if (request.command === Command.BlockStatus) throw unexpected('a simple reply to a block status request');
    if (request.command !== Command.Read) return 0;
    if (this.#framing !== 'simple') throw unexpected('a simple reply with data where structured ones were agreed');
    this.#into = request.data;
    this.#intoBytes = 0;
    return request.length;
  }

  data(reader: ReplyReader): void {
    const request = this.#findChunk(reader);
    const slices = this.#begin(request, reader.dataOffset, reader.dataBytes);
    this.#into = slices;
    this.#intoBytes = slices === request.data ? reader.dataOffset - request.offset : 0;
  }

  slice(slice: Buffer): void {
    holdSlice(slice);
    appendSlice(this.#into, slice, this.#intoBytes);
    this.#intoBytes += slice.length;
  }

  whole(reader: ReplyReader): void {
    this.#into = NOWHERE;
    if (reader.isChunk) this.#maybeDone(reader);
    else this.#inFlight.remove(this.#slot)?.complete(knownError(reader.error));
  }

  bodyLimit(reader: ReplyReader): number {
    const request = this.#findChunk(reader);
    switch (reader.type) {
      case Chunk.None:
        return 0;
      case Chunk.OffsetHole:
        return 12;
      case Chunk.BlockStatus:
      case Chunk.BlockStatusExtended:
        if (request.command !== Command.BlockStatus) throw unexpected('block status that was not asked for');
        return MAX_STATUS_BYTES;
      default:
        if ((reader.type & CHUNK_ERROR_BIT) === 0) throw unexpected(`a chunk of unknown type ${reader.type}`);
        return MAX_ERROR_BYTES;
    }
  }

  body(reader: ReplyReader, body: Buffer): void {
    const request = this.#find(reader);
    if (reader.type === Chunk.OffsetHole) this.#hole(request, body);
    else if (reader.type === Chunk.BlockStatus) this.#status(request, body, 4, 4);
    else if (reader.type === Chunk.BlockStatusExtended) this.#status(request, body, 8, 8);
    else if (reader.type !== Chunk.None) this.#error(reader, body);
    else if ((reader.flags & CHUNK_FLAG_DONE) === 0) throw unexpected('an empty chunk that is not the last');
    this.#maybeDone(reader);
  }

  #find(reader: ReplyReader): BlockRequest {
    const slot = this.#inFlight.slotOf(reader.cookieHigh, reader.cookieLow);
    const request = slot < 0 ? null : (this.#inFlight.requests[slot] ?? null);
    if (request === null) {
      throw new ProtocolFault(
        'wrong-cookie',
        `a reply has cookie ${reader.cookieHigh}:${reader.cookieLow}, which no request in flight has`,
      );
    }
    this.#slot = slot;
    return request;
  }

  #findChunk(reader: ReplyReader): BlockRequest {
    const request = this.#find(reader);
    if (reader.requestOffset >= 0 && reader.requestOffset !== request.offset) {
      throw unexpected(`a reply for offset ${reader.requestOffset}, asked was ${request.offset}`);
    }
    const chunks = (this.#inFlight.chunks[this.#slot] ?? 0) + 1;
    this.#inFlight.chunks[this.#slot] = chunks;
    if (chunks > FREE_CHUNKS + request.length / 512) {
      throw new ProtocolFault('reply-fragmented', `a reply for ${request.length} bytes came in ${chunks} pieces`);
    }
    return request;
  }

  /** Where the content that begins at `offset` goes. Throws for content outside of the request, or too much of it. */
  #begin(request: BlockRequest, offset: number, length: number): Buffer[] {
    if (request.command !== Command.Read) throw unexpected('content that was not asked for');
    const { offset: from, length: bytes } = request;
    if (offset < from || length > bytes || offset - from > bytes - length) {
      throw unexpected(`content at ${offset} of ${length} bytes, asked was ${bytes} at ${from}`);
    }
    const slot = this.#slot;
    const received = (this.#inFlight.received[slot] ?? 0) + length;
    if (received > bytes) throw new ProtocolFault('reply-overlap', `${received} bytes for a read of ${bytes}`);
    this.#inFlight.received[slot] = received;
    const parts = this.#inFlight.parts[slot] ?? null;
    if (parts === null && this.#inFlight.end[slot] === offset) {
      this.#inFlight.end[slot] = offset + length;
      return request.data;
    }
    const made = parts ?? new ReadParts();
    this.#inFlight.parts[slot] = made;
    return made.begin(offset, length);
  }

  #hole(request: BlockRequest, body: Buffer): void {
    if (body.length !== 12) throw badLength('a hole', body.length, '12');
    const length = body.readUInt32BE(8);
    if (length === 0) throw unexpected('a hole of no bytes');
    appendZeroes(this.#begin(request, readUint64(body, 0), length), length);
  }

  #status(request: BlockRequest, body: Buffer, headBytes: number, fieldBytes: number): void {
    if ((fieldBytes === 8) !== (this.#framing === 'extended')) throw unexpected('block status of the other framing');
    const runBytes = 2 * fieldBytes;
    if (body.length < headBytes + runBytes || (body.length - headBytes) % runBytes !== 0) {
      throw badLength('block status', body.length, `${headBytes} and a multiple of ${runBytes}`);
    }
    const name = this.#contextNames.get(body.readUInt32BE(0));
    if (name === undefined) throw unexpected(`block status of unknown context ${body.readUInt32BE(0)}`);
    if (fieldBytes === 8 && body.readUInt32BE(4) !== (body.length - headBytes) / runBytes) {
      throw unexpected('a count of extents that is not theirs');
    }
    const runs: number[] = [];
    const isOne = (request.flags & CommandFlag.RequestOne) !== 0;
    let covered = 0;
    for (let at = headBytes; at < body.length; at += runBytes) {
      const length = fieldBytes === 8 ? readUint64(body, at) : body.readUInt32BE(at);
      // No context that we know has flags beyond 32 bits.
      const flags = body.readUInt32BE(at + runBytes - 4);
      if (length === 0 || length > Number.MAX_SAFE_INTEGER) throw unexpected(`an extent of ${length} bytes`);
      if (isOne && (covered > 0 || length > request.length)) throw unexpected('more than the one extent asked for');
      // Only the last one may reach beyond the range; what servers send after it is of no use.
      if (covered >= request.length) break;
      runs.push(length, flags);
      covered += length;
    }
    for (const [index, wanted] of request.contexts.entries()) {
      if (wanted !== name) continue;
      if (request.extents[index] !== undefined) throw unexpected(`block status of ${name} twice`);
      request.extents[index] = { runs };
    }
  }

  #error(reader: ReplyReader, body: Buffer): void {
    const tail = reader.type === Chunk.ErrorOffset ? 8 : 0;
    if (body.length < 6 + tail) throw badLength('an error chunk', body.length, `${6 + tail} or more`);
    if (body.readUInt16BE(4) > body.length - 6 - tail) throw unexpected('an error message longer than its chunk');
    const error = body.readUInt32BE(0);
    if (error === 0) throw unexpected('an error chunk with error 0');
    if (this.#inFlight.errors[this.#slot] === 0) this.#inFlight.errors[this.#slot] = knownError(error);
  }

  #maybeDone(reader: ReplyReader): void {
    if ((reader.flags & CHUNK_FLAG_DONE) === 0) return;
    const slot = this.#slot;
    const request = this.#inFlight.requests[slot] ?? null;
    if (request === null) return;
    const error = this.#inFlight.errors[slot] ?? 0;
    if (error === 0 && request.command === Command.Read) this.#checkRead(request, slot);
    if (error === 0 && request.command === Command.BlockStatus) this.#checkStatus(request);
    if (error !== 0 && request.data.length > 0 && request.command === Command.Read) request.data = [];
    this.#inFlight.remove(slot);
    request.complete(error);
  }

  #checkRead(request: BlockRequest, slot: number): void {
    const parts = this.#inFlight.parts[slot] ?? null;
    let end = this.#inFlight.end[slot] ?? 0;
    if (parts !== null) end = parts.appendTo(request.data, end);
    if (end !== request.offset + request.length) {
      throw new ProtocolFault('reply-incomplete', `a read of ${request.length} bytes was answered without byte ${end}`);
    }
  }

  #checkStatus(request: BlockRequest): void {
    for (const [index, name] of request.contexts.entries()) {
      if (request.extents[index] === undefined) {
        throw new ProtocolFault('reply-incomplete', `block status was answered without ${name}`);
      }
    }
  }
}

const NOWHERE: Buffer[] = [];

function unexpected(what: string): ProtocolFault {
  return new ProtocolFault('bad-reply', `the server sent ${what}`);
}

function badLength(what: string, bytes: number, expected: string): ProtocolFault {
  return new ProtocolFault('bad-chunk-length', `${what} has ${bytes} bytes, expected ${expected}`);
}

/** As the specification asks: an error nobody defined counts as EINVAL. */
function knownError(error: number): number {
  return KNOWN_ERRORS.has(error) ? error : NbdError.Einval;
}
