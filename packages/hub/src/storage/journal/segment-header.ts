/**
 * The block at the head of every journal segment. Layout, little endian:
 *
 *   offset     bytes field
 *        0         8 magic "RPHSEG01"
 *        8         4 version, 1
 *       12         4 bytes of the whole header, a multiple of 4096
 *       16         4 bytes of the body
 *       20         4 zero
 *       24         … body, msgpack: SegmentInfo
 *        …         … zeroes
 *  length-4        4 CRC-32 of all before
 *
 * Must not know: files.
 */
import { CorruptionFault, crc32 } from '@rephub/platform';
import { decodeBody, encodeBody, lineSchema } from '@rephub/protocol';
import { z } from 'zod';
import { pointSchema } from '../point.js';

const MAGIC = Buffer.from('RPHSEG01', 'latin1');
const VERSION = 1;
const BLOCK_BYTES = 4096;
const FIXED_BYTES = 24;
/** A header is never larger: 65,536 volumes do not fit, 20,000 do. */
const MAX_SEGMENT_HEADER_BYTES = 4 * 1024 * 1024;

const position = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

const segmentInfoSchema = z.object({
  group: z.string(),
  hubId: z.string(),
  line: lineSchema,
  /** Journal position of the segment's first byte. */
  base: position,
  /** Where the frames of the segment before end; below `base` only after damage. Equal to `base` in the first one. */
  previousEnd: position,
  /** What the first frame follows. */
  before: pointSchema,
});
export type SegmentInfo = z.infer<typeof segmentInfoSchema>;

export function encodeSegmentHeader(info: SegmentInfo): Buffer {
  const body = encodeBody(info);
  const length = Math.ceil((FIXED_BYTES + body.length + 4) / BLOCK_BYTES) * BLOCK_BYTES;
  const header = Buffer.alloc(length);
  MAGIC.copy(header, 0);
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(length, 12);
  header.writeUInt32LE(body.length, 16);
  body.copy(header, FIXED_BYTES);
  header.writeUInt32LE(crc32(header.subarray(0, length - 4)), length - 4);
  return header;
}

/** Bytes of the header that begins with this block; throws `segment-header` when it is none. */
export function segmentHeaderBytes(block: Buffer): number {
  if (block.length < BLOCK_BYTES || !block.subarray(0, 8).equals(MAGIC)) {
    throw new CorruptionFault('segment-header', 'journal segment does not begin with its magic');
  }
  const version = block.readUInt32LE(8);
  if (version !== VERSION) {
    throw new CorruptionFault('segment-version', `journal segment has version ${version}, expected ${VERSION}`);
  }
  const length = block.readUInt32LE(12);
  if (length === 0 || length % BLOCK_BYTES !== 0 || length > MAX_SEGMENT_HEADER_BYTES) {
    throw new CorruptionFault('segment-header', `journal segment announces a header of ${length} bytes`);
  }
  return length;
}

/** Checks and decodes a whole header; throws a CorruptionFault. */
export function decodeSegmentHeader(header: Buffer): SegmentInfo {
  const length = segmentHeaderBytes(header);
  const bodyBytes = header.readUInt32LE(16);
  if (header.length < length || FIXED_BYTES + bodyBytes + 4 > length) {
    throw new CorruptionFault('segment-header', 'journal segment has a header of wrong length');
  }
  if (crc32(header.subarray(0, length - 4)) !== header.readUInt32LE(length - 4)) {
    throw new CorruptionFault('segment-header', 'journal segment header does not match its checksum');
  }
  try {
    return decodeBody(segmentInfoSchema, header.subarray(FIXED_BYTES, FIXED_BYTES + bodyBytes), 'segment header');
  } catch (cause) {
    throw new CorruptionFault('segment-header', 'journal segment header has a body of wrong shape', { cause });
  }
}
