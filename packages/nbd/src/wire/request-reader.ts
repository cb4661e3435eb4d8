/**
 * Cuts what a client sends in transmission into requests: in place, resumable at any byte. Only a header
 * split over two chunks is copied; payload goes on as slices of the chunks it came in.
 *
 * Always holds: nothing is believed but the magic; no memory is taken because of a length. Whether a
 * request may be, its sink decides before its payload is read, and a payload nobody wants is read off.
 * After a fault the reader is dead. Knows no devices and no replies.
 */
import { ProtocolFault } from '@rephub/platform';
import { Command } from '../block-device.js';
import {
  COMMAND_FLAG_PAYLOAD,
  EXTENDED_REQUEST_MAGIC,
  MAX_PAYLOAD_BYTES,
  readUint64,
  REQUEST_MAGIC,
} from './constants.js';

const COMPACT_BYTES = 28;
const EXTENDED_BYTES = 32;

export interface RequestSink {
  /** A header has come; its fields are the reader's. True: the payload is wanted; false: it is read off. */
  header(reader: RequestReader): boolean;
  /** The next of a wanted payload's slices. */
  payload(slice: Buffer): void;
  /** Header and payload are there. False: read no further for now. */
  whole(reader: RequestReader): boolean;
}

export class RequestReader {
  /** The fields of the request being read; good from `header` to `whole`. */
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Exact up to 2^53; beyond every device above that. */
  offset = 0;
  /** Payload or effect, as the command has it. */
  length = 0;
  /** Bytes that follow the header. */
  payloadBytes = 0;
  readonly #sink: RequestSink;
  readonly #headerBytes: number;
  readonly #maxPayload: number;
  readonly #split = Buffer.alloc(EXTENDED_BYTES);
  #splitBytes = 0;
  #payloadLeft = 0;
  #inPayload = false;
  #wanted = false;

  /**
   * `maximumBytes` is the largest payload that the export takes. An extended request with more, and more than any
   * export must take, is a fault, as the specification has it; a compact one is read off.
   */
  constructor(sink: RequestSink, extended: boolean, maximumBytes: number = MAX_PAYLOAD_BYTES) {
    this.#maxPayload = Math.max(maximumBytes, MAX_PAYLOAD_BYTES);
    this.#sink = sink;
    this.#headerBytes = extended ? EXTENDED_BYTES : COMPACT_BYTES;
  }

  /** True between requests: the end of the stream cuts nothing off here. */
  get atBoundary(): boolean {
    return !this.#inPayload && this.#splitBytes === 0;
  }

  /** Reads from `at` on; returns where it stopped, the chunk's end unless the sink said so. Throws the ProtocolFault. */
  read(chunk: Buffer, at: number): number {
    let position = at;
    for (;;) {
      if (this.#inPayload) {
        const step = Math.min(this.#payloadLeft, chunk.length - position);
        if (this.#wanted && step > 0) {
          const whole = position === 0 && step === chunk.length;
          this.#sink.payload(whole ? chunk : chunk.subarray(position, position + step));
        }
        position += step;
        this.#payloadLeft -= step;
        if (this.#payloadLeft > 0) return position;
        this.#inPayload = false;
        if (!this.#sink.whole(this)) return position;
      }
      if (position >= chunk.length) return position;
      if (this.#splitBytes === 0 && chunk.length - position >= this.#headerBytes) {
        this.#decode(chunk, position);
        position += this.#headerBytes;
      } else {
        const step = Math.min(this.#headerBytes - this.#splitBytes, chunk.length - position);
        chunk.copy(this.#split, this.#splitBytes, position, position + step);
        this.#splitBytes += step;
        position += step;
        if (this.#splitBytes < this.#headerBytes) {
          this.#checkEarly();
          return position;
        }
        this.#splitBytes = 0;
        this.#decode(this.#split, 0);
      }
      this.#wanted = this.#sink.header(this);
      this.#payloadLeft = this.payloadBytes;
      this.#inPayload = true;
    }
  }

  /** Garbage is noticed by its first four bytes, not only when a whole header has come. */
  #checkEarly(): void {
    if (this.#splitBytes >= 4) this.#checkMagic(this.#split, 0);
  }

  #checkMagic(from: Buffer, at: number): void {
    const magic = from.readUInt32BE(at);
    const expected = this.#headerBytes === EXTENDED_BYTES ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC;
    if (magic !== expected) {
      throw new ProtocolFault(
        'bad-request-magic',
        `a request begins with 0x${magic.toString(16)}, expected 0x${expected.toString(16)}`,
      );
    }
  }

  #decode(from: Buffer, at: number): void {
    this.#checkMagic(from, at);
    this.flags = from.readUInt16BE(at + 4);
    this.type = from.readUInt16BE(at + 6);
    this.cookieHigh = from.readUInt32BE(at + 8);
    this.cookieLow = from.readUInt32BE(at + 12);
    this.offset = readUint64(from, at + 16);
    if (this.#headerBytes === COMPACT_BYTES) {
      this.length = from.readUInt32BE(at + 24);
      this.payloadBytes = this.type === Command.Write ? this.length : 0;
      return;
    }
    this.length = readUint64(from, at + 24);
    this.payloadBytes = (this.flags & COMMAND_FLAG_PAYLOAD) !== 0 ? this.length : 0;
    if (this.payloadBytes > this.#maxPayload) {
      throw new ProtocolFault('payload-too-long', `a request claims a payload of ${this.payloadBytes} bytes`);
    }
  }
}
