/**
 * One transaction of hot.log: a block of 4096 bytes, little endian. Pure codec.
 *
 *  offset  bytes  field
 *       0      4  magic "RPHT"
 *       4      1  version (1)
 *       5      1  reserved, zero
 *       6      6  sequence
 *      12      2  number of slots
 *      14      2  number of changes, at most 256
 *      16     16  agent id
 *      32     16  line id
 *      48      8  number on which cleared marks rest
 *      56      8  number known durable at the hub
 *      64      8  highest number known to have been used
 *      72      2  first slot of the slice
 *      74      2  slots in the slice, at most 487
 *      76      2  number of announced page runs, at most 64
 *      78     18  reserved, zero
 *      96   1536  changes: slot (2), extent key (4)
 *    1632    512  announced page runs: volume (1), first page (3), pages (30 bits), and which copy: 1 A, 2 B (2 bits; 0: not said)
 *    2144   1948  slice: extent keys (4 each) as they are after the changes
 *    4092      4  CRC-32 of all before
 *
 * An extent key of 0xffffffff means that the slot is free.
 */
import { uuidText } from '@rephub/platform';
import { isSealed, readSafe, seal, writeSafe, writeUuid } from './bytes.js';
import { NO_EXTENT } from './geometry.js';

export const TRANSACTION_BYTES = 4096;
export const MAX_CHANGES = 256;
export const MAX_ANNOUNCED = 64;
export const SLICE_SLOTS = 487;
const MAGIC = 0x5448_5052;
const VERSION = 1;
const CHANGES_AT = 96;
const ANNOUNCED_AT = CHANGES_AT + MAX_CHANGES * 6;
const SLICE_AT = ANNOUNCED_AT + MAX_ANNOUNCED * 8;
/** Which copy, above the pages' count. */
const COPY_UNIT = 2 ** 30;
const COPIES = [null, 0, 1] as const;

/** Pages `first` to `first + count - 1` of a volume's map are about to be written, each over this copy of it (0 A, 1 B). */
export interface PageRun {
  readonly volume: number;
  readonly first: number;
  readonly count: number;
  /** Null: not said. */
  readonly copy: 0 | 1 | null;
}

export interface Transaction {
  readonly sequence: number;
  readonly slots: number;
  readonly agentId: string;
  readonly lineId: string;
  readonly restsOn: number;
  readonly durableNumber: number;
  readonly lastNumber: number;
  /** Slot and new extent key, alternating. */
  readonly changes: readonly number[];
  readonly announced: readonly PageRun[];
  readonly sliceStart: number;
  readonly slice: Uint32Array;
}

/** Writes the transaction into the block, all of it. */
export function encodeTransaction(block: Buffer, transaction: Transaction): void {
  const { changes, announced, slice } = transaction;
  block.fill(0, 0, CHANGES_AT);
  block.writeUInt32LE(MAGIC, 0);
  block.writeUInt8(VERSION, 4);
  block.writeUIntLE(transaction.sequence, 6, 6);
  block.writeUInt16LE(transaction.slots, 12);
  block.writeUInt16LE(changes.length / 2, 14);
  writeUuid(block, transaction.agentId, 16);
  writeUuid(block, transaction.lineId, 32);
  writeSafe(block, transaction.restsOn, 48);
  writeSafe(block, transaction.durableNumber, 56);
  writeSafe(block, transaction.lastNumber, 64);
  block.writeUInt16LE(transaction.sliceStart, 72);
  block.writeUInt16LE(slice.length, 74);
  block.writeUInt16LE(announced.length, 76);
  let at = CHANGES_AT;
  for (let index = 0; index < changes.length; index += 2) {
    at = block.writeUInt16LE(changes[index] ?? 0, at);
    at = block.writeUInt32LE(changes[index + 1] ?? NO_EXTENT, at);
  }
  block.fill(0, at, ANNOUNCED_AT);
  at = ANNOUNCED_AT;
  for (const { volume, first, count, copy } of announced) {
    at = block.writeUInt8(volume, at);
    at = block.writeUIntLE(first, at, 3);
    at = block.writeUInt32LE(count + COPY_UNIT * (copy === null ? 0 : copy + 1), at);
  }
  block.fill(0, at, SLICE_AT);
  at = SLICE_AT;
  for (const key of slice) at = block.writeUInt32LE(key, at);
  block.fill(0, at);
  seal(block);
}

export type ReadTransaction =
  | { readonly kind: 'valid'; readonly transaction: Transaction }
  | { readonly kind: 'invalid' }
  /** Whole, but of a version that is not ours. */
  | { readonly kind: 'version'; readonly version: number };

/** Reads a block; `invalid` when it is torn, foreign or says impossible things. */
export function decodeTransaction(block: Buffer): ReadTransaction {
  if (block.length !== TRANSACTION_BYTES || block.readUInt32LE(0) !== MAGIC || !isSealed(block)) {
    return { kind: 'invalid' };
  }
  const version = block.readUInt8(4);
  if (version !== VERSION) return { kind: 'version', version };
  const slots = block.readUInt16LE(12);
  const changeCount = block.readUInt16LE(14);
  const sliceStart = block.readUInt16LE(72);
  const sliceCount = block.readUInt16LE(74);
  const announcedCount = block.readUInt16LE(76);
  const numbers = [readSafe(block, 48), readSafe(block, 56), readSafe(block, 64)] as const;
  const isPossible =
    changeCount <= MAX_CHANGES &&
    announcedCount <= MAX_ANNOUNCED &&
    sliceCount <= SLICE_SLOTS &&
    sliceStart + sliceCount <= slots &&
    !numbers.some(Number.isNaN);
  if (!isPossible) return { kind: 'invalid' };

  const changes: number[] = [];
  for (let index = 0; index < changeCount; index += 1) {
    const slot = block.readUInt16LE(CHANGES_AT + index * 6);
    if (slot >= slots) return { kind: 'invalid' };
    changes.push(slot, block.readUInt32LE(CHANGES_AT + index * 6 + 2));
  }
  const announced: PageRun[] = [];
  for (let at = ANNOUNCED_AT; announced.length < announcedCount; at += 8) {
    announced.push({
      volume: block.readUInt8(at),
      first: block.readUIntLE(at + 1, 3),
      count: block.readUInt32LE(at + 4) % COPY_UNIT,
      copy: COPIES[Math.floor(block.readUInt32LE(at + 4) / COPY_UNIT)] ?? null,
    });
  }
  const slice = new Uint32Array(sliceCount);
  for (let index = 0; index < sliceCount; index += 1) slice[index] = block.readUInt32LE(SLICE_AT + index * 4);
  return {
    kind: 'valid',
    transaction: {
      sequence: block.readUIntLE(6, 6),
      slots,
      agentId: uuidText(block, 16),
      lineId: uuidText(block, 32),
      restsOn: numbers[0],
      durableNumber: numbers[1],
      lastNumber: numbers[2],
      changes,
      announced,
      sliceStart,
      slice,
    },
  };
}
