/**
 * Writes the server's replies onto a connection in the framing that was negotiated. Headers are written
 * into buffers that are used again (`Connection.send` copies what is small at once); payload is sent as
 * the slices it is.
 */
import type { Connection } from '@rephub/platform';
import { type BlockRequest, CommandFlag, isZeroes, type StatusExtents } from '../block-device.js';
import { ZEROES } from '../zeroes.js';
import {
  Chunk,
  CHUNK_FLAG_DONE,
  EXTENDED_REPLY_MAGIC,
  type Framing,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  writeUint64,
} from './constants.js';

const SIMPLE_BYTES = 16;
const STRUCTURED_BYTES = 20;
const EXTENDED_BYTES = 32;
/** Runs in one block status reply; a client asks again for the rest. */
const MAX_RUNS = 16_384;
/** A shorter hole within a read costs more in chunks than it spares in bytes. */
const LEAST_HOLE_BYTES = 4096;
/** Chunks begin and end at multiples of this, within a request. */
const CHUNK_ALIGNMENT = 512;
/** The longest run that a compact chunk can tell, a multiple of every block size there may be. */
const MAX_COMPACT_RUN_BYTES = 0xffff_0000;

export class ReplyWriter {
  readonly #connection: Connection;
  readonly #framing: Framing;
  readonly #sizeBytes: number;
  readonly #alignment: number;
  readonly #headerBytes: number;
  readonly #simple = Buffer.alloc(SIMPLE_BYTES);
  /** A chunk's header alone, with an offset, with offset and length, with an error: one buffer of each length. */
  readonly #none: Buffer;
  readonly #data: Buffer;
  readonly #hole: Buffer;
  readonly #error: Buffer;
  readonly #errorOffset: Buffer;

  /** For an export of `sizeBytes` whose blocks have at least `minimumBytes`. */
  constructor(connection: Connection, framing: Framing, sizeBytes: number, minimumBytes: number) {
    this.#connection = connection;
    this.#framing = framing;
    this.#sizeBytes = sizeBytes;
    this.#alignment = Math.max(CHUNK_ALIGNMENT, minimumBytes);
    this.#headerBytes = framing === 'extended' ? EXTENDED_BYTES : STRUCTURED_BYTES;
    this.#simple.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
    this.#none = this.#chunkHeader(0);
    this.#data = this.#chunkHeader(8);
    this.#hole = this.#chunkHeader(12);
    this.#error = this.#chunkHeader(6);
    this.#errorOffset = this.#chunkHeader(14);
  }

  /** An outcome without payload. */
  status(error: number, offset: number, cookieHigh: number, cookieLow: number): void {
    if (this.#framing !== 'extended' && (this.#framing === 'simple' || error === 0)) {
      this.#sendSimple(error, cookieHigh, cookieLow);
    } else if (error === 0) {
      this.#fill(this.#none, Chunk.None, CHUNK_FLAG_DONE, offset, cookieHigh, cookieLow, 0);
      this.#connection.send(this.#none);
    } else {
      this.#fill(this.#error, Chunk.Error, CHUNK_FLAG_DONE, offset, cookieHigh, cookieLow, 6);
      this.#error.writeUInt32BE(error, this.#headerBytes);
      this.#connection.send(this.#error);
    }
  }

  /** A read that failed, and from where on: with its first byte, since nothing of it is sent. */
  readError(request: BlockRequest): void {
    if (this.#framing === 'simple') {
      this.#sendSimple(request.error, request.tagHigh, request.tagLow);
      return;
    }
    const chunk = this.#errorOffset;
    this.#fill(chunk, Chunk.ErrorOffset, CHUNK_FLAG_DONE, request.offset, request.tagHigh, request.tagLow, 14);
    chunk.writeUInt32BE(request.error, this.#headerBytes);
    writeUint64(chunk, request.offset, this.#headerBytes + 6);
    this.#connection.send(chunk);
  }

  /** A read of no bytes: structured framings want a chunk for it, not a simple reply. */
  emptyRead(offset: number, cookieHigh: number, cookieLow: number): void {
    if (this.#framing === 'simple') {
      this.#sendSimple(0, cookieHigh, cookieLow);
      return;
    }
    this.#fill(this.#none, Chunk.None, CHUNK_FLAG_DONE, offset, cookieHigh, cookieLow, 0);
    this.#connection.send(this.#none);
  }

  /** A read's data; zero runs leave as holes where the framing can say so. */
  read(request: BlockRequest): void {
    const { data } = request;
    if (this.#framing === 'simple') {
      this.#sendSimple(0, request.tagHigh, request.tagLow);
      for (const slice of data) this.#connection.send(slice);
      return;
    }
    const requestEnd = request.offset + request.length;
    const isOneChunk = (request.flags & CommandFlag.DontFragment) !== 0;
    // What is not sent yet: `padding` zeroes, then the slices from `from` on, from `start` in the export.
    let start = request.offset;
    let from = 0;
    let padding = 0;
    let offset = start;
    for (let index = 0; index < data.length;) {
      let next = index;
      let runEnd = offset;
      for (let slice = data[next]; slice !== undefined && isZeroes(slice); slice = data[next]) {
        runEnd += slice.length;
        next++;
      }
      if (next === index) {
        offset += data[index]?.length ?? 0;
        index++;
        continue;
      }
      const holeStart = offset === request.offset ? offset : this.#up(offset);
      const holeEnd = runEnd === requestEnd ? runEnd : runEnd - (runEnd % this.#alignment);
      const isWorthIt = holeEnd - holeStart >= Math.min(LEAST_HOLE_BYTES, request.length);
      if (isWorthIt && !isOneChunk) {
        if (holeStart > start) {
          this.#sendData(request, 0, start, holeStart - start, padding, from, index, holeStart - offset);
        }
        this.#sendHole(request, holeEnd === requestEnd ? CHUNK_FLAG_DONE : 0, holeStart, holeEnd - holeStart);
        start = holeEnd;
        padding = runEnd - holeEnd;
        from = next;
      }
      offset = runEnd;
      index = next;
    }
    if (start < requestEnd) {
      this.#sendData(request, CHUNK_FLAG_DONE, start, requestEnd - start, padding, from, data.length, 0);
    }
  }

  /** Block status: one chunk for each context, `ids` in the order of the request's contexts. */
  blockStatus(request: BlockRequest, ids: readonly number[]): void {
    const last = ids.length - 1;
    const most = this.#framing === 'extended' ? Number.MAX_SAFE_INTEGER : MAX_COMPACT_RUN_BYTES;
    for (const [index, id] of ids.entries()) {
      const extents = request.extents[index] ?? UNKNOWN;
      const runs = boundRuns(extents, request, most, this.#sizeBytes);
      const flags = index === last ? CHUNK_FLAG_DONE : 0;
      this.#connection.send(
        this.#framing === 'extended' ? this.#wideRuns(request, flags, id, runs) : this.#runs(request, flags, id, runs),
      );
    }
  }

  #sendSimple(error: number, cookieHigh: number, cookieLow: number): void {
    const header = this.#simple;
    header.writeUInt32BE(error, 4);
    header.writeUInt32BE(cookieHigh, 8);
    header.writeUInt32BE(cookieLow, 12);
    this.#connection.send(header);
  }

  #up(offset: number): number {
    return Math.ceil(offset / this.#alignment) * this.#alignment;
  }

  /** One chunk of `length` bytes: zeroes, the slices from `from` to `to`, zeroes. */
  #sendData(
    request: BlockRequest,
    flags: number,
    offset: number,
    length: number,
    zeroesBefore: number,
    from: number,
    to: number,
    zeroesAfter: number,
  ): void {
    const { data } = request;
    this.#fill(this.#data, Chunk.OffsetData, flags, request.offset, request.tagHigh, request.tagLow, 8 + length);
    writeUint64(this.#data, offset, this.#headerBytes);
    this.#connection.send(this.#data);
    if (zeroesBefore > 0) this.#connection.send(ZEROES.subarray(0, zeroesBefore));
    for (let index = from; index < to; index++) {
      const slice = data[index];
      if (slice !== undefined) this.#connection.send(slice);
    }
    if (zeroesAfter > 0) this.#connection.send(ZEROES.subarray(0, zeroesAfter));
  }

  #sendHole(request: BlockRequest, flags: number, offset: number, length: number): void {
    this.#fill(this.#hole, Chunk.OffsetHole, flags, request.offset, request.tagHigh, request.tagLow, 12);
    writeUint64(this.#hole, offset, this.#headerBytes);
    this.#hole.writeUInt32BE(length, this.#headerBytes + 8);
    this.#connection.send(this.#hole);
  }

  #runs(request: BlockRequest, flags: number, id: number, runs: readonly number[]): Buffer {
    const chunk = this.#chunkHeader(4 + runs.length * 4);
    const length = chunk.length - this.#headerBytes;
    this.#fill(chunk, Chunk.BlockStatus, flags, request.offset, request.tagHigh, request.tagLow, length);
    let at = chunk.writeUInt32BE(id, this.#headerBytes);
    for (const value of runs) at = chunk.writeUInt32BE(value, at);
    return chunk;
  }

  #wideRuns(request: BlockRequest, flags: number, id: number, runs: readonly number[]): Buffer {
    const chunk = this.#chunkHeader(8 + runs.length * 8);
    const length = chunk.length - this.#headerBytes;
    this.#fill(chunk, Chunk.BlockStatusExtended, flags, request.offset, request.tagHigh, request.tagLow, length);
    chunk.writeUInt32BE(id, this.#headerBytes);
    let at = chunk.writeUInt32BE(runs.length / 2, this.#headerBytes + 4);
    for (const value of runs) {
      writeUint64(chunk, value, at);
      at += 8;
    }
    return chunk;
  }

  #chunkHeader(bodyBytes: number): Buffer {
    const chunk = Buffer.alloc(this.#headerBytes + bodyBytes);
    chunk.writeUInt32BE(this.#framing === 'extended' ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC, 0);
    return chunk;
  }

  #fill(
    chunk: Buffer,
    type: number,
    flags: number,
    requestOffset: number,
    cookieHigh: number,
    cookieLow: number,
    length: number,
  ): void {
    chunk.writeUInt16BE(flags, 4);
    chunk.writeUInt16BE(type, 6);
    chunk.writeUInt32BE(cookieHigh, 8);
    chunk.writeUInt32BE(cookieLow, 12);
    if (this.#framing === 'extended') {
      writeUint64(chunk, requestOffset, 16);
      writeUint64(chunk, length, 24);
    } else {
      chunk.writeUInt32BE(length, 16);
    }
  }
}

/** What may always be said of a range: allocated data. */
const UNKNOWN: StatusExtents = { runs: [] };

/**
 * The runs as a client may be told them, in pairs: never empty, none of no bytes, none of more than `most` bytes,
 * none beyond the export's end, neighbours with other flags, only the last beyond what was asked for, and one
 * only, within what was asked for, when one was wanted.
 */
export function boundRuns(
  extents: StatusExtents,
  request: BlockRequest,
  most: number,
  sizeBytes: number,
): readonly number[] {
  const { runs } = extents;
  const isOne = (request.flags & CommandFlag.RequestOne) !== 0;
  const bounded: number[] = [];
  let covered = 0;
  for (let index = 0; index + 1 < runs.length && covered < request.length; index += 2) {
    const room = (isOne ? request.length : sizeBytes - request.offset) - covered;
    const length = Math.min(runs[index] ?? 0, room);
    if (!(length > 0)) continue;
    const flags = (runs[index + 1] ?? 0) >>> 0;
    const last = bounded.length - 2;
    const isSame = last >= 0 && bounded[last + 1] === flags;
    if (!isSame && last >= 0 && (isOne || bounded.length >= 2 * MAX_RUNS)) break;
    const before = isSame ? (bounded[last] ?? 0) : 0;
    const clipped = Math.min(before + length, most);
    if (isSame) bounded[last] = clipped;
    else bounded.push(clipped, flags);
    covered += clipped - before;
    if (clipped < before + length) break;
  }
  if (bounded.length === 0) bounded.push(Math.min(request.length, most), 0);
  return bounded;
}
