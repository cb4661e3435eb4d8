/**
 * Where the partitions of a disk begin, from its first bytes: MBR (primary entries) and GPT, sectors of 512 bytes. What
 * is no partition table has none. Pure; every field is checked against what is there.
 */
const SECTOR_BYTES = 512;
const MBR_ENTRIES = 446;
const MBR_ENTRY_BYTES = 16;
const GPT_PROTECTIVE = 0xee;
const GPT_MOST_ENTRIES = 128;

/** Byte offsets, in the table's order; those beyond `sizeBytes` are left out. */
export function partitionStarts(head: Buffer, sizeBytes: number): number[] {
  if (head.length < SECTOR_BYTES || head.readUInt16LE(510) !== 0xaa55) return [];
  const starts: number[] = [];
  for (let entry = MBR_ENTRIES; entry < MBR_ENTRIES + 4 * MBR_ENTRY_BYTES; entry += MBR_ENTRY_BYTES) {
    const type = head.readUInt8(entry + 4);
    if (type === GPT_PROTECTIVE) return within(gptStarts(head), sizeBytes);
    if (type !== 0) starts.push(head.readUInt32LE(entry + 8) * SECTOR_BYTES);
  }
  return within(starts, sizeBytes);
}

function gptStarts(head: Buffer): number[] {
  const header = head.subarray(SECTOR_BYTES, 2 * SECTOR_BYTES);
  if (header.length < SECTOR_BYTES || header.toString('latin1', 0, 8) !== 'EFI PART') return [];
  const firstByte = Number(header.readBigUInt64LE(72)) * SECTOR_BYTES;
  const count = Math.min(header.readUInt32LE(80), GPT_MOST_ENTRIES);
  const entryBytes = header.readUInt32LE(84);
  if (entryBytes < 128) return [];
  const starts: number[] = [];
  for (let at = firstByte, seen = 0; seen < count && at + entryBytes <= head.length; at += entryBytes, seen++) {
    const isUsed = head.readBigUInt64LE(at) !== 0n || head.readBigUInt64LE(at + 8) !== 0n;
    if (isUsed) starts.push(Number(head.readBigUInt64LE(at + 32)) * SECTOR_BYTES);
  }
  return starts;
}

function within(starts: readonly number[], sizeBytes: number): number[] {
  return starts.filter((start) => start > 0 && start < sizeBytes);
}
