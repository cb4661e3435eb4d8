/**
 * The agent's hot path from a completed write to frame bytes: numbers records, chains their checksums and
 * lays header and trailer into slabs. Payload is checksummed where it lies and never copied.
 *
 * Always holds:
 *  - numbers rise by one, each record names the header checksum of the one before it;
 *  - agent time never goes back along the line;
 *  - bytes handed out are never written again: a slab is left to the garbage collector when it is full.
 *
 * Must not know: where frames go, what is in the window.
 */
import { assert, crc32 } from '@rephub/platform';
import { type PackedPayload } from './compression.js';
import { encodeHeader, encodeTrailer, FrameHeader, FrameType, HEADER_BYTES, TRAILER_BYTES } from './frame.js';

const SLAB_BYTES = 64 * 1024;
const OVERHEAD_BYTES = HEADER_BYTES + TRAILER_BYTES;
const NOTHING = Buffer.alloc(0);

export class RecordEncoder {
  /** Header of the frame that `encode` made last; the whole frame when it has no payload. */
  head: Buffer = NOTHING;
  /** What follows the payload; empty when there is none. */
  tail: Buffer = NOTHING;
  readonly #header = new FrameHeader();
  #slab: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #used = 0;
  #nextNumber: number;
  #chain: number;
  #timeUs = 0;

  /** `line`: 16 bytes. `nextNumber` and `previousChecksum` as the lineage verdict or the last record gave them. */
  constructor(line: Uint8Array, nextNumber: number, previousChecksum: number) {
    this.#header.line = line;
    this.#nextNumber = nextNumber;
    this.#chain = previousChecksum;
  }

  /** The number that the next record gets. */
  get nextNumber(): number {
    return this.#nextNumber;
  }

  /** The header checksum of the last record: what the next one names. */
  get lastChecksum(): number {
    return this.#chain;
  }

  /** Records that come are not earlier than this on the line. */
  notBefore(agentTimeUs: number): void {
    this.#timeUs = Math.max(this.#timeUs, agentTimeUs);
  }

  /** Skips forward before a SpanBegin, and chains it to the record that the hub holds last. */
  skipTo(nextNumber: number, previousChecksum: number): void {
    assert(nextNumber >= this.#nextNumber, `number ${nextNumber} was given before, next is ${this.#nextNumber}`);
    this.#nextNumber = nextNumber;
    this.#chain = previousChecksum;
  }

  /**
   * Makes the next record: sets `head` and `tail` and returns its number. The frame is head, payload, tail. `payload` is at
   * most 32 MiB in all; for a Write `length` is the payload's. With `packed` the frame is head, `packed.slices`, tail.
   */
  encode(
    type: FrameType,
    flags: number,
    volume: number,
    offset: number,
    length: number,
    agentTimeUs: number,
    tag: number,
    payload: readonly Uint8Array[],
    packed: PackedPayload | null = null,
  ): number {
    let checksum = 0;
    let payloadBytes = 0;
    for (const slice of payload) {
      checksum = crc32(slice, checksum);
      payloadBytes += slice.length;
    }
    assert(type !== FrameType.Write || payloadBytes === length, `write of ${length} bytes with ${payloadBytes}`);
    if (agentTimeUs > this.#timeUs) this.#timeUs = agentTimeUs;
    const header = this.#header;
    const number = this.#nextNumber;
    header.type = type;
    header.flags = flags;
    header.volume = volume;
    header.compression = 0;
    header.storedLength = payloadBytes;
    header.number = number;
    header.offset = offset;
    header.length = length;
    header.agentTimeUs = this.#timeUs;
    header.storedChecksum = checksum;
    header.rawChecksum = checksum;
    if (packed !== null) takePacked(header, packed);
    header.tag = tag;
    header.previousChecksum = this.#chain;
    if (this.#used + OVERHEAD_BYTES > SLAB_BYTES) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#used = 0;
    }
    const at = this.#used;
    this.#chain = encodeHeader(header, this.#slab, at);
    encodeTrailer(this.#chain, this.#slab, at + HEADER_BYTES);
    this.#used += OVERHEAD_BYTES;
    this.#nextNumber = number + 1;
    if (payloadBytes === 0) {
      this.head = this.#slab.subarray(at, at + OVERHEAD_BYTES);
      this.tail = NOTHING;
    } else {
      this.head = this.#slab.subarray(at, at + HEADER_BYTES);
      this.tail = this.#slab.subarray(at + HEADER_BYTES, at + OVERHEAD_BYTES);
    }
    return number;
  }
}

/** The payload is carried in this shape; the raw one's checksum stays. */
function takePacked(header: FrameHeader, packed: PackedPayload): void {
  header.compression = packed.compression;
  header.storedLength = packed.bytes;
  let checksum = 0;
  for (const slice of packed.slices) checksum = crc32(slice, checksum);
  header.storedChecksum = checksum;
}
