/**
 * VOLUME.map: its header block and its pages. Pure codec, and the decision which of a page's two copies counts.
 *
 *  offset of page p, copy c (0 = A, 1 = B): 4096 × (1 + 2p + c). The image with sequence n lies in copy n mod 2.
 *
 *  page    0      4  magic "RPHP"
 *          4      1  version (1)
 *          5      1  reserved, zero
 *          6      6  sequence
 *         12      4  page number
 *         16      8  number on which cleared bits rest
 *         24      4  tag: CRC-32 of the header block's fields, so that another volume's page is noticed
 *         28      4  CRC-32 of the page without this field
 *         32   4064  bits, block 0 of the page in the lowest bit of the first byte
 *
 *  header  0      4  magic "RPHM"
 *          4      1  version (1)
 *          5      3  reserved, zero
 *          8     16  agent id
 *         24      2  volume index
 *         26      2  length of the name
 *         28      4  granularity
 *         32      8  size of the volume in bytes
 *         40     64  name
 *       4092      4  CRC-32 of all before
 */
import { CorruptionFault, crc32, uuidText } from '@rephub/platform';
import { isSealed, readSafe, seal, writeSafe, writeUuid } from './bytes.js';
import { type Geometry, PAGE_BYTES, PAGE_HEADER_BYTES } from './geometry.js';

const PAGE_MAGIC = 0x5048_5052;
const HEADER_MAGIC = 0x4d48_5052;
const VERSION = 1;

export interface MapHeader {
  readonly agentId: string;
  readonly index: number;
  readonly name: string;
  readonly granularityBytes: number;
  readonly sizeBytes: number;
}

export function encodeMapHeader(agentId: string, geometry: Geometry): Buffer {
  const block = Buffer.alloc(PAGE_BYTES);
  block.writeUInt32LE(HEADER_MAGIC, 0);
  block.writeUInt8(VERSION, 4);
  writeUuid(block, agentId, 8);
  block.writeUInt16LE(geometry.index, 24);
  block.writeUInt16LE(geometry.name.length, 26);
  block.writeUInt32LE(geometry.granularityBytes, 28);
  writeSafe(block, geometry.sizeBytes, 32);
  block.write(geometry.name, 40, 64, 'latin1');
  seal(block);
  return block;
}

/** Reads the header block; throws CorruptionFault `map-corrupt` or `map-version`. */
export function decodeMapHeader(block: Buffer, path: string): MapHeader {
  if (block.length !== PAGE_BYTES || block.readUInt32LE(0) !== HEADER_MAGIC || !isSealed(block)) {
    throw new CorruptionFault('map-corrupt', `${path}: its header is not whole`);
  }
  const version = block.readUInt8(4);
  if (version !== VERSION) {
    throw new CorruptionFault('map-version', `${path} is of version ${version}, this software reads ${VERSION}`);
  }
  return {
    agentId: uuidText(block, 8),
    index: block.readUInt16LE(24),
    name: block.toString('latin1', 40, 40 + Math.min(64, block.readUInt16LE(26))),
    granularityBytes: block.readUInt32LE(28),
    sizeBytes: readSafe(block, 32),
  };
}

/** What ties a map's pages to it: the header's own checksum (that of a block with its checksum is the same for all). */
export function tagOf(header: Buffer): number {
  return header.readUInt32LE(header.length - 4);
}

/** Where a copy of a page lies in the file. */
export function pagePosition(page: number, copy: number): number {
  return PAGE_BYTES * (1 + 2 * page + copy);
}

/** Fills in the header of a page whose bits are in place. */
export function sealPage(image: Buffer, page: number, sequence: number, restsOn: number, tag: number): void {
  image.fill(0, 0, PAGE_HEADER_BYTES);
  image.writeUInt32LE(PAGE_MAGIC, 0);
  image.writeUInt8(VERSION, 4);
  image.writeUIntLE(sequence, 6, 6);
  image.writeUInt32LE(page, 12);
  writeSafe(image, restsOn, 16);
  image.writeUInt32LE(tag, 24);
  image.writeUInt32LE(checksumOf(image), 28);
}

export interface ChosenPage {
  readonly sequence: number;
  readonly restsOn: number;
  /** 0 or 1: which copy counts. */
  readonly copy: number;
  /** The other copy is torn and must be written again before its announcement goes. */
  readonly torn: boolean;
}

/** Which of a page's copies was being written, and may be torn; null: none. */
export type TornCopy = 0 | 1 | 'either' | null;

/**
 * Decides which copy of a page counts. Throws CorruptionFault when a copy is bad that was not announced, when
 * none is good, or when the two are not successive images.
 */
export function choosePage(
  copies: readonly [Buffer, Buffer],
  path: string,
  page: number,
  tag: number,
  announced: TornCopy,
): ChosenPage {
  const [a, b] = [readPage(copies[0], path, page, tag, 0), readPage(copies[1], path, page, tag, 1)];
  if (a !== null && b !== null) {
    if (Math.abs(a.sequence - b.sequence) !== 1) {
      throw new CorruptionFault(
        'map-corrupt',
        `${path}: images ${a.sequence} and ${b.sequence} of page ${page} are not successive`,
      );
    }
    return { ...(a.sequence > b.sequence ? a : b), torn: false };
  }
  const whole = a ?? b;
  if (whole === null) throw new CorruptionFault('map-corrupt', `${path}: no copy of page ${page} is whole`);
  if (announced !== 'either' && announced !== (a === null ? 0 : 1)) {
    throw new CorruptionFault(
      'map-corrupt',
      `${path}: a copy of page ${page} is not whole, and it was not being written`,
    );
  }
  return { ...whole, torn: true };
}

function readPage(
  image: Buffer,
  path: string,
  page: number,
  tag: number,
  copy: number,
): Omit<ChosenPage, 'torn'> | null {
  if (image.readUInt32LE(0) !== PAGE_MAGIC || image.readUInt32LE(28) !== checksumOf(image)) return null;
  const sequence = image.readUIntLE(6, 6);
  const restsOn = readSafe(image, 16);
  if (image.readUInt8(4) !== VERSION) {
    throw new CorruptionFault(
      'map-version',
      `${path}: page ${page} is of version ${image.readUInt8(4)}, not ${VERSION}`,
    );
  }
  if (image.readUInt32LE(24) !== tag) {
    throw new CorruptionFault('map-foreign', `${path}: page ${page} belongs to another map`);
  }
  const isInPlace = image.readUInt32LE(12) === page && sequence % 2 === copy && !Number.isNaN(restsOn);
  return isInPlace ? { sequence, restsOn, copy } : null;
}

function checksumOf(image: Buffer): number {
  return crc32(image.subarray(PAGE_HEADER_BYTES), crc32(image.subarray(0, 28)));
}
