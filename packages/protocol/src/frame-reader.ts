/**
 * Cuts a byte stream into frames: resumable at any byte, bounded, checked before anything is believed.
 * The header is checked before its payload is waited for, the payload's checksum before the frame is
 * handed on. Nothing is copied but headers that are split over two chunks and small pieces of a frame that
 * comes in many, so that what half a frame costs is bounded by its length, however it is cut. Chunks of counted
 * memory are held while part of an unfinished frame is in them; after a fault that is left to the garbage collector.
 *
 * After a fault the reader is dead: the session that fed it must end.
 */
import { crc32, holdSlice, ProtocolFault, releaseBytes } from '@rephub/platform';
import { checkTrailer, decodeHeader, FrameHeader, HEADER_BYTES, TRAILER_BYTES } from './frame.js';

/** Pieces below this size are copied together when a frame comes in several. */
const SMALL_PIECE_BYTES = 512;
const GATHER_BYTES = 16 * 1024;
const NOTHING = Buffer.alloc(0);

export interface FrameSink {
  /**
   * One whole, checked frame. `header` and the array `raw` are used again for the next frame; the slices
   * in `raw` (header, payload, trailer, as they came) may be kept; of counted memory, while they are held.
   */
  frame(header: FrameHeader, raw: readonly Buffer[]): void;
}

export class FrameReader {
  readonly #sink: FrameSink;
  readonly #header = new FrameHeader();
  readonly #split = Buffer.alloc(HEADER_BYTES);
  readonly #raw: Buffer[] = [];
  #part: 'header' | 'payload' | 'trailer' = 'header';
  /** Bytes of the current part that have come. */
  #got = 0;
  #checksum = 0;
  #dead = false;
  #stopped = false;
  /** Where small pieces of a frame are put together: a peer that drips bytes must not cost an object for each. */
  #gather: Buffer = NOTHING;
  #gathered = 0;
  /** Where the run begins that the last slice of `#raw` shows; -1 when that slice is not ours. */
  #runFrom = -1;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** True between frames: an end of the stream here loses nothing. */
  get atBoundary(): boolean {
    return this.#part === 'header' && this.#got === 0;
  }

  /** True when a frame's checked header has come and its payload not yet. */
  get insidePayload(): boolean {
    return this.#part === 'payload';
  }

  /** The header of the frame whose payload is awaited, while `insidePayload`. */
  get awaited(): FrameHeader {
    return this.#header;
  }

  /** Bytes of the awaited payload that have come. */
  get payloadArrivedBytes(): number {
    return this.#part === 'payload' ? this.#got : 0;
  }

  /** No frame is handed over any more, not even one that the chunk at hand still holds. */
  stop(): void {
    this.#stopped = true;
  }

  /** Takes the next bytes; calls the sink for each frame that they complete. Throws the ProtocolFault of a bad frame. */
  push(chunk: Buffer): void {
    if (this.#dead) throw new ProtocolFault('frame-after-fault', 'bytes after a bad frame');
    if (this.#stopped) return;
    try {
      this.#consume(chunk);
    } catch (fault) {
      this.#dead = true;
      throw fault;
    }
  }

  #consume(chunk: Buffer): void {
    let at = 0;
    // Where the bytes of the current frame begin in this chunk.
    let frameFrom = 0;
    while (at < chunk.length) {
      switch (this.#part) {
        case 'header': {
          const next = this.#takeSmall(chunk, at, HEADER_BYTES, decodeInto);
          if (next < 0) {
            this.#keep(chunk, frameFrom, chunk.length);
            return;
          }
          at = next;
          this.#checksum = 0;
          this.#part = this.#header.storedLength > 0 ? 'payload' : 'trailer';
          if (this.#part === 'trailer') this.#checkPayload();
          break;
        }
        case 'payload': {
          const missing = this.#header.storedLength - this.#got;
          const step = Math.min(missing, chunk.length - at);
          this.#checksum = crc32(chunk.subarray(at, at + step), this.#checksum);
          at += step;
          this.#got += step;
          if (step < missing) {
            this.#keep(chunk, frameFrom, chunk.length);
            return;
          }
          this.#checkPayload();
          this.#got = 0;
          this.#part = 'trailer';
          break;
        }
        case 'trailer': {
          const next = this.#takeSmall(chunk, at, TRAILER_BYTES, checkEnd);
          if (next < 0) {
            this.#keep(chunk, frameFrom, chunk.length);
            return;
          }
          at = next;
          const cameWhole = this.#raw.length === 0;
          if (cameWhole) this.#raw.push(frameFrom === 0 && at === chunk.length ? chunk : chunk.subarray(frameFrom, at));
          else this.#keep(chunk, frameFrom, at);
          this.#part = 'header';
          this.#sink.frame(this.#header, this.#raw);
          if (!cameWhole) releaseBytes(this.#raw);
          this.#raw.length = 0;
          this.#runFrom = -1;
          if (this.#stopped) return;
          frameFrom = at;
          break;
        }
      }
    }
    // The chunk ended with a part that is exactly complete, or at a frame's end.
    if (frameFrom < chunk.length) this.#keep(chunk, frameFrom, chunk.length);
  }

  /** A piece of a frame that came in several: kept as a slice, or, when it is small, copied to the others like it. */
  #keep(chunk: Buffer, from: number, to: number): void {
    const bytes = to - from;
    if (bytes >= SMALL_PIECE_BYTES) {
      holdSlice(chunk);
      this.#raw.push(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
      this.#runFrom = -1;
      return;
    }
    if (this.#gathered + bytes > this.#gather.length) {
      this.#gather = Buffer.allocUnsafeSlow(GATHER_BYTES);
      this.#gathered = 0;
      this.#runFrom = -1;
    }
    const runGoesOn = this.#runFrom >= 0;
    if (!runGoesOn) this.#runFrom = this.#gathered;
    chunk.copy(this.#gather, this.#gathered, from, to);
    this.#gathered += bytes;
    const run = this.#gather.subarray(this.#runFrom, this.#gathered);
    if (runGoesOn) this.#raw[this.#raw.length - 1] = run;
    else this.#raw.push(run);
  }

  /** Handles a part of fixed size in place, or gathers it over chunks. Returns where it ends, -1 when more is needed. */
  #takeSmall(
    chunk: Buffer,
    at: number,
    bytes: number,
    use: (header: FrameHeader, from: Buffer, at: number) => void,
  ): number {
    if (this.#got === 0 && chunk.length - at >= bytes) {
      use(this.#header, chunk, at);
      return at + bytes;
    }
    const step = Math.min(bytes - this.#got, chunk.length - at);
    chunk.copy(this.#split, this.#got, at, at + step);
    this.#got += step;
    if (this.#got < bytes) return -1;
    this.#got = 0;
    use(this.#header, this.#split, 0);
    return at + step;
  }

  #checkPayload(): void {
    if (this.#checksum !== this.#header.storedChecksum) {
      throw new ProtocolFault(
        'payload-checksum',
        `payload of record ${this.#header.number} does not match its checksum`,
      );
    }
  }
}

function decodeInto(header: FrameHeader, from: Buffer, at: number): void {
  decodeHeader(from, at, header);
}

function checkEnd(header: FrameHeader, from: Buffer, at: number): void {
  checkTrailer(from, at, header.headerChecksum);
}

/**
 * The payload's slices out of a frame's raw slices: what is left without the first 88 and the last 8 bytes.
 */
export function payloadOf(header: FrameHeader, raw: readonly Buffer[]): Buffer[] {
  const payload: Buffer[] = [];
  let skip = HEADER_BYTES;
  let left = header.storedLength;
  for (const slice of raw) {
    if (left === 0) break;
    if (skip >= slice.length) {
      skip -= slice.length;
      continue;
    }
    const part = slice.subarray(skip, Math.min(slice.length, skip + left));
    skip = 0;
    left -= part.length;
    payload.push(part);
  }
  return payload;
}
