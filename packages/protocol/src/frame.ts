/**
 * The frame: one layout for what travels on the link and for what lies in the journal. A record frame
 * is appended to the journal as it came; a control frame has a msgpack body and is not journalled.
 *
 * Layout, little endian (docs/design.md, "The frame"):
 *
 *   offset bytes field
 *        0     4 magic "RPH1"
 *        4     1 version, 1
 *        5     1 type
 *        6     2 flags
 *        8     2 volume index in the group
 *       10     1 compression of the payload: 0 none, 1 zstd, 2 lz4
 *       11     1 zero
 *       12     4 stored length: payload bytes that follow the header
 *       16    16 line (generation), a UUID; zero in control frames
 *       32     8 number
 *       40     8 offset, bytes
 *       48     8 length, bytes of the volume that the record speaks of
 *       56     8 agent time, microseconds since 1970 UTC, never decreasing along a line
 *       64     4 CRC-32 of the payload as carried
 *       68     4 CRC-32 of the payload uncompressed (the same when it is not compressed)
 *       72     4 tag: which request a record answers, else 0
 *       76     4 zero
 *       80     4 header checksum of the record before it on its line
 *       84     4 CRC-32 of bytes 0 to 83: the header checksum
 *       88     … payload
 *        …     4 closing magic "1HPR"
 *        …     4 header checksum again
 *
 * Must not know: sockets, files, what a record means to a replica.
 */
import { crc32, ProtocolFault } from '@rephub/platform';

/** Ahead of the payload. */
export const HEADER_BYTES = 88;
/** Behind it. */
export const TRAILER_BYTES = 8;
/** What a frame costs beyond its payload. */
export const FRAME_OVERHEAD_BYTES = HEADER_BYTES + TRAILER_BYTES;
/** Data payload of one record, at most. */
export const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024;
/** Body of a control frame, at most. */
export const MAX_CONTROL_BYTES = 1024 * 1024;
const FRAME_VERSION = 1;

/** The first four bytes of every frame, little-endian. */
export const FRAME_MAGIC = 0x31485052; // "RPH1"
const CLOSING_MAGIC = 0x52504831; // "1HPR"
const TWO_32 = 0x1_0000_0000;
const MAX_COMPRESSION = 2;

/** What the header checksum covers. One header at a time is laid out, or looked at, here: no views are made per frame. */
const CHECKED_BYTES = 84;
const CHECKED = Buffer.alloc(CHECKED_BYTES);
const scratch = new DataView(CHECKED.buffer, CHECKED.byteOffset, CHECKED_BYTES);

/** Types below 64 are records: numbered, journalled. The others are control frames. */
export const FrameType = {
  /** Guest data, or with the Copied flag data that the agent read from upstream. */
  Write: 1,
  /** The range reads as zeroes; no payload. */
  Zero: 2,
  /** The range reads as zeroes and should take no space; no payload. */
  Discard: 3,
  /** The guest's flush was completed here. */
  Flush: 4,
  /** A point with a name, or an automatic one; msgpack payload. */
  Checkpoint: 5,
  /** The volume has `length` bytes from here on. */
  Resize: 6,
  /** Volume `volume` exists from here on with `length` bytes; msgpack payload {name}. */
  VolumeAdded: 7,
  VolumeRemoved: 8,
  /** Upstream could not read the range: reads of it fail until it is written. */
  Unreadable: 9,
  /** After a gap: from here to the span's end no point is consistent; msgpack payload {cause}. The only record that may skip numbers. */
  SpanBegin: 10,
  SpanEnd: 11,
  /** What the hub decided; in the group's decision log only, unnumbered; msgpack payload. */
  Decision: 12,

  Hello: 64,
  Welcome: 65,
  Start: 66,
  Refuse: 67,
  Beat: 68,
  Ack: 69,
  ReadRegion: 70,
  RegionRefused: 71,
  Request: 72,
  Bye: 73,
  /** What does the hub hold there, as digests? Only where both sides said that they can (feature `hashes`). */
  HashRegion: 74,
  Hashes: 75,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export const FrameFlag = {
  /** Content that the agent read from upstream, for a resync, a repair or a remote read. */
  Copied: 1 << 0,
  /** `tag` names the ReadRegion request that this record answers. */
  Answer: 1 << 1,
} as const;
const KNOWN_FLAGS = FrameFlag.Copied | FrameFlag.Answer;

const CONTROL_FROM = 64;
const KNOWN_TYPES = new Set<number>(Object.values(FrameType));

/** Records are numbered and journalled; all other frames are control. */
export function isRecordType(type: number): boolean {
  return type < CONTROL_FROM;
}

/** The record says something of the bytes from `offset` on, `length` of them. */
export function carriesRange(type: FrameType): boolean {
  return (
    type === FrameType.Write || type === FrameType.Zero || type === FrameType.Discard || type === FrameType.Unreadable
  );
}

/** A header's fields; one object is filled again and again on the hot path. */
export class FrameHeader {
  type: FrameType = FrameType.Write;
  flags = 0;
  volume = 0;
  compression = 0;
  storedLength = 0;
  /** 16 bytes. After `decodeHeader` they are this object's own and change with the next one: copy them to keep them. */
  line: Uint8Array = NO_LINE;
  number = 0;
  offset = 0;
  length = 0;
  agentTimeUs = 0;
  storedChecksum = 0;
  rawChecksum = 0;
  tag = 0;
  previousChecksum = 0;
  headerChecksum = 0;
  readonly #ownLine = new Uint8Array(16);

  /** Copies the 16 bytes at `at`. */
  takeLine(bytes: Uint8Array, at: number): void {
    for (let index = 0; index < 16; index += 1) this.#ownLine[index] = bytes[at + index] ?? 0;
    this.line = this.#ownLine;
  }
}

const NO_LINE: Uint8Array = new Uint8Array(16);

/** Bytes of a whole frame that has this header. */
export function frameBytes(header: FrameHeader): number {
  return HEADER_BYTES + header.storedLength + TRAILER_BYTES;
}

/** Writes the header at `at` and sets and returns its checksum. */
export function encodeHeader(header: FrameHeader, target: Buffer, at: number): number {
  scratch.setUint32(0, FRAME_MAGIC, true);
  scratch.setUint8(4, FRAME_VERSION);
  scratch.setUint8(5, header.type);
  scratch.setUint16(6, header.flags, true);
  scratch.setUint16(8, header.volume, true);
  scratch.setUint8(10, header.compression);
  scratch.setUint8(11, 0);
  scratch.setUint32(12, header.storedLength, true);
  CHECKED.set(header.line, 16);
  writeSafe(header.number, 32);
  writeSafe(header.offset, 40);
  writeSafe(header.length, 48);
  writeSafe(header.agentTimeUs, 56);
  scratch.setUint32(64, header.storedChecksum, true);
  scratch.setUint32(68, header.rawChecksum, true);
  scratch.setUint32(72, header.tag, true);
  scratch.setUint32(76, 0, true);
  scratch.setUint32(80, header.previousChecksum, true);
  header.headerChecksum = crc32(CHECKED);
  target.set(CHECKED, at);
  target.writeUInt32LE(header.headerChecksum, at + CHECKED_BYTES);
  return header.headerChecksum;
}

/** Writes the closing magic and the header checksum at `at`. */
export function encodeTrailer(headerChecksum: number, target: Buffer, at: number): void {
  target.writeUInt32LE(CLOSING_MAGIC, at);
  target.writeUInt32LE(headerChecksum, at + 4);
}

/**
 * Reads and checks the 88 bytes at `at` into `header`.
 * Throws a ProtocolFault: `frame-magic`, `frame-checksum`, `frame-version`, `frame-type`, `frame-field`, `frame-too-big`.
 * The checksum comes before the version: magic, version and header checksum keep their places in every version.
 */
export function decodeHeader(bytes: Buffer, at: number, header: FrameHeader): void {
  if (bytes.readUInt32LE(at) !== FRAME_MAGIC)
    throw new ProtocolFault('frame-magic', 'frame does not begin with its magic');
  bytes.copy(CHECKED, 0, at, at + CHECKED_BYTES);
  const checksum = bytes.readUInt32LE(at + CHECKED_BYTES);
  if (crc32(CHECKED) !== checksum) {
    throw new ProtocolFault('frame-checksum', 'frame header does not match its checksum');
  }
  const version = scratch.getUint8(4);
  if (version !== FRAME_VERSION) {
    throw new ProtocolFault('frame-version', `frame has version ${version}, expected ${FRAME_VERSION}`);
  }
  const type = scratch.getUint8(5);
  if (!isFrameType(type)) throw new ProtocolFault('frame-type', `frame has unknown type ${type}`);
  header.type = type;
  header.flags = scratch.getUint16(6, true);
  header.volume = scratch.getUint16(8, true);
  header.compression = scratch.getUint8(10);
  header.storedLength = scratch.getUint32(12, true);
  header.takeLine(CHECKED, 16);
  header.number = readSafe(32);
  header.offset = readSafe(40);
  header.length = readSafe(48);
  header.agentTimeUs = readSafe(56);
  header.storedChecksum = scratch.getUint32(64, true);
  header.rawChecksum = scratch.getUint32(68, true);
  header.tag = scratch.getUint32(72, true);
  header.previousChecksum = scratch.getUint32(80, true);
  header.headerChecksum = checksum;
  if ((header.flags & ~KNOWN_FLAGS) !== 0 || scratch.getUint8(11) !== 0 || scratch.getUint32(76, true) !== 0) {
    throw new ProtocolFault('frame-field', 'frame sets bits that this version does not know');
  }
  checkFields(header);
}

/** Largest payload of each type: 32 MiB of data, 1 MiB of msgpack, or none at all. */
function payloadLimit(type: FrameType): number {
  switch (type) {
    case FrameType.Write:
      return MAX_PAYLOAD_BYTES;
    case FrameType.Zero:
    case FrameType.Discard:
    case FrameType.Flush:
    case FrameType.Resize:
    case FrameType.VolumeRemoved:
    case FrameType.Unreadable:
      return 0;
    default:
      return MAX_CONTROL_BYTES;
  }
}

function checkFields(header: FrameHeader): void {
  const limit = payloadLimit(header.type);
  if (header.storedLength > limit) {
    throw new ProtocolFault(
      'frame-too-big',
      `frame announces ${header.storedLength} bytes, at most ${limit} are allowed`,
    );
  }
  if (!Number.isSafeInteger(header.offset + header.length)) {
    throw new ProtocolFault('frame-field', 'frame speaks of a range beyond 2^53 bytes');
  }
  if (header.number === 0 && isRecordType(header.type) && header.type !== FrameType.Decision) {
    throw new ProtocolFault('frame-field', 'record without a number');
  }
  if (header.compression === 0) {
    if (header.rawChecksum !== header.storedChecksum) {
      throw new ProtocolFault('frame-field', 'frame is not compressed, yet has two payload checksums');
    }
  } else if (header.compression > MAX_COMPRESSION || header.type !== FrameType.Write) {
    throw new ProtocolFault('frame-field', `frame has compression ${header.compression}`);
  }
  if (header.type === FrameType.Write) checkWrite(header);
}

function checkWrite(header: FrameHeader): void {
  if (header.length === 0 || header.length > MAX_PAYLOAD_BYTES) {
    throw new ProtocolFault('frame-field', `write of ${header.length} bytes, 1 to ${MAX_PAYLOAD_BYTES} are allowed`);
  }
  const fits =
    header.compression === 0
      ? header.storedLength === header.length
      : header.storedLength > 0 && header.storedLength <= header.length;
  if (!fits) throw new ProtocolFault('frame-field', `write of ${header.length} bytes carries ${header.storedLength}`);
}

/** Throws a ProtocolFault `frame-trailer` when the 8 bytes at `at` do not close the frame of this header checksum. */
export function checkTrailer(bytes: Buffer, at: number, headerChecksum: number): void {
  if (bytes.readUInt32LE(at) !== CLOSING_MAGIC || bytes.readUInt32LE(at + 4) !== headerChecksum) {
    throw new ProtocolFault('frame-trailer', 'frame does not end with its closing magic and header checksum');
  }
}

function isFrameType(type: number): type is FrameType {
  return KNOWN_TYPES.has(type);
}

function writeSafe(value: number, at: number): void {
  scratch.setUint32(at, value % TWO_32, true);
  scratch.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

function readSafe(at: number): number {
  const high = scratch.getUint32(at + 4, true);
  if (high > 0x1f_ffff) throw new ProtocolFault('frame-field', 'frame has a number beyond 2^53');
  return high * TWO_32 + scratch.getUint32(at, true);
}
