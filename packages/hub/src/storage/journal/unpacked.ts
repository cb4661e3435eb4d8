/**
 * The raw bytes of compressed records, for those who read the journal: read, decompressed and checked once for all that
 * ask at about the same time.
 *
 * Always holds: at most LOADING_BYTES are being read and decompressed at once (or one record, however large), and at most
 * KEPT_BYTES are kept; what is handed out matches the checksums of the record's header.
 * Must not know: places, indexes, what the bytes are for.
 */
import { type BlockCodec, CorruptionFault, crc32, ProtocolFault } from '@rephub/platform';
import { checkTrailer, decodeHeader, FrameHeader, HEADER_BYTES, TRAILER_BYTES, unpack } from '@rephub/protocol';

const LOADING_BYTES = 16 * 1024 * 1024;
const KEPT_BYTES = 4 * 1024 * 1024;

interface Loaded {
  readonly raw: Promise<Buffer>;
  readonly rawBytes: number;
}

export class Unpacked {
  readonly #codecs: readonly BlockCodec[];
  /** By the position of the frame, the one that was asked for last at the end. */
  readonly #loaded = new Map<number, Loaded>();
  #keptBytes = 0;
  #loadingBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(codecs: readonly BlockCodec[]) {
    this.#codecs = codecs;
  }

  /**
   * Copies the record's raw bytes from `offset` on into `buffer`. `read` reads its frame, and is called at most once, in
   * this turn or later. Rejects with what `read` does, with a CorruptionFault `journal-packed` where the frame is not what
   * was received, or with the ProtocolFault `payload-codec`.
   */
  async copy(
    position: number,
    frameBytes: number,
    rawBytes: number,
    read: (frame: Buffer) => Promise<void>,
    buffer: Uint8Array,
    offset: number,
  ): Promise<void> {
    let loaded = this.#loaded.get(position);
    if (loaded === undefined) {
      loaded = { raw: this.#load(frameBytes, rawBytes, read), rawBytes };
      loaded.raw.catch(() => {
        this.#forget(position);
      });
      this.#keptBytes += rawBytes;
    } else {
      this.#loaded.delete(position);
    }
    this.#loaded.set(position, loaded);
    for (const oldest of this.#loaded.keys()) {
      if (this.#keptBytes <= KEPT_BYTES || oldest === position) break;
      this.#forget(oldest);
    }
    const raw = await loaded.raw;
    raw.copy(buffer, 0, offset, offset + buffer.length);
    // One that is larger than all that may be kept.
    if (rawBytes > KEPT_BYTES && this.#loaded.get(position) === loaded) this.#forget(position);
  }

  #forget(position: number): void {
    const loaded = this.#loaded.get(position);
    if (loaded === undefined) return;
    this.#loaded.delete(position);
    this.#keptBytes -= loaded.rawBytes;
  }

  async #load(frameBytes: number, rawBytes: number, read: (frame: Buffer) => Promise<void>): Promise<Buffer> {
    const bytes = frameBytes + rawBytes;
    while (this.#loadingBytes > 0 && this.#loadingBytes + bytes > LOADING_BYTES) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#loadingBytes += bytes;
    try {
      const frame = Buffer.allocUnsafe(frameBytes);
      await read(frame);
      return this.#unpack(frame, rawBytes);
    } finally {
      this.#loadingBytes -= bytes;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const wake of waiting) wake();
    }
  }

  #unpack(frame: Buffer, rawBytes: number): Buffer {
    const header = new FrameHeader();
    try {
      decodeHeader(frame, 0, header);
      checkTrailer(frame, frame.length - TRAILER_BYTES, header.headerChecksum);
      const stored = frame.subarray(HEADER_BYTES, frame.length - TRAILER_BYTES);
      if (header.length !== rawBytes || header.storedLength !== stored.length) {
        throw new ProtocolFault('frame-field', `it has ${header.storedLength} bytes for ${header.length}`);
      }
      if (crc32(stored) !== header.storedChecksum) {
        throw new ProtocolFault('payload-checksum', 'its payload does not match its checksum');
      }
      return unpack(header, stored, this.#codecs);
    } catch (error) {
      if (!(error instanceof ProtocolFault) || error.code === 'payload-codec') throw error;
      const what = `record ${header.number} is not in the journal as it was received: ${error.message}`;
      throw new CorruptionFault('journal-packed', what, { cause: error });
    }
  }
}
