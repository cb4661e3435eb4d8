/**
 * Looks over a msgpack body before it is decoded: lengths, nesting and kinds, without taking memory for
 * what the body claims to hold. The decoder's extensions (records compiled to code, regular expressions,
 * errors, references) are for trusted data; bodies from a peer are plain values only.
 */
import { ProtocolFault } from '@rephub/platform';

/** Deeper than any message of ours. */
const MAX_DEPTH = 16;
const open = new Float64Array(MAX_DEPTH + 1);

/**
 * Throws a ProtocolFault `bad-body` unless `bytes` are exactly one value made of nil, booleans, numbers,
 * strings, binaries, arrays and maps (and `undefined` as msgpackr writes it).
 */
export function checkPlainMsgpack(bytes: Buffer, what: string): void {
  let at = 0;
  let depth = 0;
  // Values still to come on each level.
  open[0] = 1;
  for (;;) {
    while (depth >= 0 && open[depth] === 0) depth -= 1;
    if (depth < 0) break;
    open[depth] = (open[depth] ?? 0) - 1;
    if (at >= bytes.length) throw bad(what, 'cut short');
    const tag = bytes.readUInt8(at);
    const width = lengthWidth(tag);
    if (at + 1 + width > bytes.length) throw bad(what, 'cut short');
    const length = width === 0 ? 0 : bytes.readUIntBE(at + 1, width);
    at += 1 + width;
    const children = childrenOf(tag, length);
    at += scalarBytes(tag, length, bytes, at, what);
    if (at > bytes.length || children > bytes.length - at) throw bad(what, 'claims more than it has');
    if (children === 0) continue;
    if (depth === MAX_DEPTH) throw bad(what, `nested deeper than ${MAX_DEPTH}`);
    depth += 1;
    open[depth] = children;
  }
  if (at !== bytes.length) throw bad(what, `${bytes.length - at} bytes after its end`);
}

/** Bytes of the length field that follows the tag. */
function lengthWidth(tag: number): number {
  switch (tag) {
    case 0xc4:
    case 0xd9:
      return 1;
    case 0xc5:
    case 0xda:
    case 0xdc:
    case 0xde:
      return 2;
    case 0xc6:
    case 0xdb:
    case 0xdd:
    case 0xdf:
      return 4;
    default:
      return 0;
  }
}

/** Values inside an array or a map. */
function childrenOf(tag: number, length: number): number {
  if (tag >= 0x80 && tag <= 0x8f) return (tag & 0x0f) * 2;
  if (tag >= 0x90 && tag <= 0x9f) return tag & 0x0f;
  if (tag === 0xdc || tag === 0xdd) return length;
  if (tag === 0xde || tag === 0xdf) return length * 2;
  return 0;
}

/** Bytes of content that follow tag and length. */
function scalarBytes(tag: number, length: number, bytes: Buffer, at: number, what: string): number {
  if (tag <= 0x9f || tag >= 0xe0) return 0;
  if (tag <= 0xbf) return tag & 0x1f;
  switch (tag) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
    case 0xdc:
    case 0xdd:
    case 0xde:
    case 0xdf:
      return 0;
    case 0xc4:
    case 0xc5:
    case 0xc6:
    case 0xd9:
    case 0xda:
    case 0xdb:
      return length;
    case 0xcc:
    case 0xd0:
      return 1;
    case 0xcd:
    case 0xd1:
      return 2;
    case 0xca:
    case 0xce:
    case 0xd2:
      return 4;
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return 8;
    case 0xd4:
      if (at + 2 <= bytes.length && bytes.readUInt16BE(at) === 0) return 2;
      throw bad(what, 'has an extension type');
    default:
      throw bad(what, `has a value of kind 0x${tag.toString(16)}`);
  }
}

function bad(what: string, why: string): ProtocolFault {
  return new ProtocolFault('bad-body', `${what}: ${why}`);
}
