/**
 * LZ4 without a native library: the raw length in 4 bytes, little endian, then one block of the LZ4 block format. Used
 * where the native codec cannot be loaded, and wherever the result must be the same on every machine.
 *
 * Always holds: reading is bounded by the length asked for, and looks at no byte outside of what it was given.
 */
import { type BlockCodec } from './block-codec.js';

const LZ4_LENGTH_BYTES = 4;
const MIN_MATCH = 4;
/** The last bytes are literals, and no match begins in the last few: what the format asks of whoever writes it. */
const LAST_LITERALS = 5;
const MATCH_LIMIT = 12;
const FARTHEST = 0xffff;
const HASH_BITS = 13;
const TABLE = new Int32Array(1 << HASH_BITS);
/** After so many bytes without a match (a power of two) the search takes larger steps. */
const SKIP_SHIFT = 6;

export const pureLz4: BlockCodec = {
  name: 'lz4',
  compress: compressLz4,
  decompress: decompressLz4,
};

function compressLz4(raw: Uint8Array): Buffer {
  const length = raw.length;
  const out = Buffer.allocUnsafe(LZ4_LENGTH_BYTES + length + Math.floor(length / 255) + 16);
  out.writeUInt32LE(length, 0);
  let at = LZ4_LENGTH_BYTES;
  let anchor = 0;
  TABLE.fill(-1);
  const searchEnd = length - MATCH_LIMIT;
  const matchEnd = length - LAST_LITERALS;
  let from = 0;
  let misses = 1 << SKIP_SHIFT;
  while (from < searchEnd) {
    const four = fourAt(raw, from);
    const slot = Math.imul(four, 0x9e3779b1) >>> (32 - HASH_BITS);
    const found = TABLE[slot] as number;
    TABLE[slot] = from;
    if (found < 0 || from - found > FARTHEST || fourAt(raw, found) !== four) {
      from += misses++ >> SKIP_SHIFT;
      continue;
    }
    misses = 1 << SKIP_SHIFT;
    let end = from + MIN_MATCH;
    let same = found + MIN_MATCH;
    while (end < matchEnd && raw[end] === raw[same]) {
      end += 1;
      same += 1;
    }
    at = putSequence(out, at, raw, anchor, from, from - found, end - from);
    anchor = end;
    from = end;
  }
  at = putSequence(out, at, raw, anchor, length, 0, 0);
  return out.subarray(0, at);
}

/** Literals [anchor, to), then a match of `matched` bytes `distance` back; without a match where `matched` is 0. */
function putSequence(
  out: Buffer,
  start: number,
  raw: Uint8Array,
  anchor: number,
  to: number,
  distance: number,
  matched: number,
): number {
  let at = start + 1;
  const literals = to - anchor;
  let token = Math.min(literals, 15) << 4;
  if (literals >= 15) at = putLength(out, at, literals - 15);
  if (literals > 0) out.set(raw.subarray(anchor, to), at);
  at += literals;
  if (matched > 0) {
    const more = matched - MIN_MATCH;
    token |= Math.min(more, 15);
    out[at] = distance & 0xff;
    out[at + 1] = distance >>> 8;
    at += 2;
    if (more >= 15) at = putLength(out, at, more - 15);
  }
  out[start] = token;
  return at;
}

function putLength(out: Buffer, start: number, rest: number): number {
  let at = start;
  let left = rest;
  for (; left >= 255; left -= 255) out[at++] = 255;
  out[at++] = left;
  return at;
}

function fourAt(raw: Uint8Array, at: number): number {
  return (
    (raw[at] as number) |
    ((raw[at + 1] as number) << 8) |
    ((raw[at + 2] as number) << 16) |
    ((raw[at + 3] as number) << 24)
  );
}

/** True where the length that the bytes themselves name is the one that is expected. */
export function namesLength(packed: Uint8Array, rawBytes: number): boolean {
  return packed.length > LZ4_LENGTH_BYTES && fourAt(packed, 0) >>> 0 === rawBytes;
}

function decompressLz4(packed: Uint8Array, rawBytes: number): Buffer | null {
  if (!namesLength(packed, rawBytes)) return null;
  const raw = Buffer.allocUnsafe(rawBytes);
  const end = packed.length;
  let at = LZ4_LENGTH_BYTES;
  let to = 0;
  while (at < end) {
    const token = packed[at++] as number;
    let literals = token >>> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) return null;
        more = packed[at++] as number;
        literals += more;
      }
    }
    if (at + literals > end || to + literals > rawBytes) return null;
    raw.set(packed.subarray(at, at + literals), to);
    at += literals;
    to += literals;
    if (at === end) return to === rawBytes ? raw : null;
    if (at + 2 > end) return null;
    const distance = (packed[at] as number) | ((packed[at + 1] as number) << 8);
    at += 2;
    let matched = (token & 15) + MIN_MATCH;
    if ((token & 15) === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) return null;
        more = packed[at++] as number;
        matched += more;
      }
    }
    if (distance === 0 || distance > to || to + matched > rawBytes) return null;
    if (distance >= matched) raw.copyWithin(to, to - distance, to - distance + matched);
    else if (distance === 1) raw.fill(raw[to - 1] as number, to, to + matched);
    else for (let byte = to; byte < to + matched; byte += 1) raw[byte] = raw[byte - distance] as number;
    to += matched;
  }
  return null;
}
