/** Numbers in the state files: little endian; 48 and 53 bits wide ones as safe integers. */
import { crc32, UUID_PATTERN } from '@rephub/platform';

/** Reads a 64-bit number; NaN when it is beyond what is exact. */
export function readSafe(buffer: Buffer, offset: number): number {
  const high = buffer.readUInt32LE(offset + 4);
  return high > 0x1f_ffff ? Number.NaN : high * 2 ** 32 + buffer.readUInt32LE(offset);
}

export function writeSafe(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32LE(value >>> 0, offset);
  buffer.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}

export function isUuid(text: unknown): text is string {
  return typeof text === 'string' && UUID_PATTERN.test(text);
}

/** The 16 bytes of a UUID's text form. */
export function writeUuid(buffer: Buffer, uuid: string, offset: number): void {
  buffer.write(uuid.replaceAll('-', ''), offset, 16, 'hex');
}

/** Puts the checksum of a block into its last four bytes. */
export function seal(block: Buffer): void {
  block.writeUInt32LE(crc32(block.subarray(0, block.length - 4)), block.length - 4);
}

export function isSealed(block: Buffer): boolean {
  return crc32(block.subarray(0, block.length - 4)) === block.readUInt32LE(block.length - 4);
}
