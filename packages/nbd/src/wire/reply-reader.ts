/**
 * Cuts what a server sends in transmission into replies and chunks: in place, resumable at any byte. Only
 * a header split over two chunks is copied; payload goes on as slices of the chunks it came in.
 *
 * Always holds: nothing is believed but the magic and what the framing allows; lengths are the sink's to
 * judge before anything is kept. After a fault the reader is dead. Knows no requests.
 */
import { ProtocolFault } from '@rephub/platform';
import {
  Chunk,
  EXTENDED_REPLY_MAGIC,
  type Framing,
  readUint64,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './constants.js';

const SIMPLE_BYTES = 16;
const STRUCTURED_BYTES = 20;
const EXTENDED_BYTES = 32;
const OFFSET_BYTES = 8;

export interface ReplySink {
  /** A simple reply; answers how many payload bytes follow. Throws the ProtocolFault of one that cannot be. */
  simple(reader: ReplyReader): number;
  /** A chunk of data begins: `dataOffset` and `dataBytes` are set. Throws. */
  data(reader: ReplyReader): void;
  /** The next slice of a simple reply's or a data chunk's payload. */
  slice(slice: Buffer): void;
  /** A simple reply or a data chunk is whole. */
  whole(reader: ReplyReader): void;
  /** The most bytes that a chunk which is not data may have. Throws for what cannot be. */
  bodyLimit(reader: ReplyReader): number;
  /** A chunk that is not data, whole. */
  body(reader: ReplyReader, body: Buffer): void;
}

type Part = 'header' | 'offset' | 'payload' | 'body';

export class ReplyReader {
  /** The fields of the reply or chunk being read. */
  isChunk = false;
  error = 0;
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** What follows a chunk's header. */
  bodyBytes = 0;
  /** The request's offset as an extended reply repeats it; -1 in other framings. */
  requestOffset = -1;
  dataOffset = 0;
  dataBytes = 0;
  readonly #sink: ReplySink;
  readonly #framing: Framing;
  readonly #split = Buffer.alloc(EXTENDED_BYTES);
  #splitBytes = 0;
  #part: Part = 'header';
  #left = 0;
  #body: Buffer[] = [];

  constructor(sink: ReplySink, framing: Framing) {
    this.#sink = sink;
    this.#framing = framing;
  }

  /** True between replies. */
  get atBoundary(): boolean {
    return this.#part === 'header' && this.#splitBytes === 0;
  }

  /** Reads the whole chunk. Throws the ProtocolFault. */
  read(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#part) {
        case 'header':
          at = this.#readHeader(chunk, at);
          break;
        case 'offset':
          at = this.#readOffset(chunk, at);
          break;
        case 'payload': {
          const step = Math.min(this.#left, chunk.length - at);
          this.#sink.slice(step === chunk.length ? chunk : chunk.subarray(at, at + step));
          at += step;
          this.#left -= step;
          if (this.#left === 0) this.#endPayload();
          break;
        }
        case 'body': {
          const step = Math.min(this.#left, chunk.length - at);
          const piece = chunk.subarray(at, at + step);
          // The memory of a chunk is only good while it is read.
          this.#body.push(step < this.#left ? Buffer.from(piece) : piece);
          at += step;
          this.#left -= step;
          if (this.#left === 0) this.#endBody();
          break;
        }
      }
    }
  }

  #readHeader(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#splitBytes === 0 && chunk.length - at >= 4) {
      const bytes = this.#headerBytes(chunk.readUInt32BE(at));
      if (chunk.length - at >= bytes) {
        this.#decode(chunk, at, bytes);
        return at + bytes;
      }
    }
    if (this.#splitBytes < 4) {
      at = this.#gather(chunk, at, 4);
      if (this.#splitBytes < 4) return at;
    }
    const bytes = this.#headerBytes(this.#split.readUInt32BE(0));
    at = this.#gather(chunk, at, bytes);
    if (this.#splitBytes < bytes) return at;
    this.#splitBytes = 0;
    this.#decode(this.#split, 0, bytes);
    return at;
  }

  #gather(chunk: Buffer, at: number, bytes: number): number {
    const step = Math.min(bytes - this.#splitBytes, chunk.length - at);
    chunk.copy(this.#split, this.#splitBytes, at, at + step);
    this.#splitBytes += step;
    return at + step;
  }

  #headerBytes(magic: number): number {
    if (this.#framing === 'extended') {
      if (magic === EXTENDED_REPLY_MAGIC) return EXTENDED_BYTES;
    } else {
      if (magic === SIMPLE_REPLY_MAGIC) return SIMPLE_BYTES;
      if (magic === STRUCTURED_REPLY_MAGIC && this.#framing === 'structured') return STRUCTURED_BYTES;
    }
    throw new ProtocolFault('bad-reply-magic', `a reply begins with 0x${magic.toString(16)}`);
  }

  #decode(from: Buffer, at: number, bytes: number): void {
    this.cookieHigh = from.readUInt32BE(at + 8);
    this.cookieLow = from.readUInt32BE(at + 12);
    this.requestOffset = -1;
    if (bytes === SIMPLE_BYTES) {
      this.isChunk = false;
      this.error = from.readUInt32BE(at + 4);
      this.#left = this.#sink.simple(this);
      this.dataBytes = this.#left;
      this.#part = 'payload';
      if (this.#left === 0) this.#endPayload();
      return;
    }
    this.isChunk = true;
    this.flags = from.readUInt16BE(at + 4);
    this.type = from.readUInt16BE(at + 6);
    if (bytes === EXTENDED_BYTES) {
      this.requestOffset = readUint64(from, at + 16);
      this.bodyBytes = readUint64(from, at + 24);
    } else {
      this.bodyBytes = from.readUInt32BE(at + 16);
    }
    if (this.type === Chunk.OffsetData) {
      if (this.bodyBytes <= OFFSET_BYTES) {
        throw new ProtocolFault('bad-chunk-length', `a data chunk has ${this.bodyBytes} bytes, expected 9 or more`);
      }
      this.#part = 'offset';
      return;
    }
    const limit = this.#sink.bodyLimit(this);
    if (this.bodyBytes > limit) {
      throw new ProtocolFault(
        'bad-chunk-length',
        `a chunk of type ${this.type} has ${this.bodyBytes} bytes, expected at most ${limit}`,
      );
    }
    this.#left = this.bodyBytes;
    this.#part = 'body';
    if (this.#left === 0) this.#endBody();
  }

  #readOffset(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#splitBytes === 0 && chunk.length - at >= OFFSET_BYTES) {
      this.dataOffset = readUint64(chunk, at);
      at += OFFSET_BYTES;
    } else {
      at = this.#gather(chunk, at, OFFSET_BYTES);
      if (this.#splitBytes < OFFSET_BYTES) return at;
      this.#splitBytes = 0;
      this.dataOffset = readUint64(this.#split, 0);
    }
    this.dataBytes = this.bodyBytes - OFFSET_BYTES;
    this.#sink.data(this);
    this.#left = this.dataBytes;
    this.#part = 'payload';
    return at;
  }

  #endPayload(): void {
    this.#part = 'header';
    this.#sink.whole(this);
  }

  #endBody(): void {
    this.#part = 'header';
    const parts = this.#body;
    if (parts.length > 0) this.#body = [];
    const first = parts[0];
    this.#sink.body(this, parts.length === 1 && first !== undefined ? first : Buffer.concat(parts));
  }
}
