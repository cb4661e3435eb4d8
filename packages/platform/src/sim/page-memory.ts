/** Memory of simulated pages and writes, cut from larger pieces: a piece lives as long as anything cut from it. */
const SLAB_BYTES = 256 * 1024;
/** Larger ones get memory of their own. */
const LARGEST_CUT_BYTES = 32 * 1024;

let slab = Buffer.alloc(0);
let used = 0;

/** Memory with anything in it. */
export function takeBytes(lengthBytes: number): Buffer {
  if (lengthBytes > LARGEST_CUT_BYTES) return Buffer.allocUnsafeSlow(lengthBytes);
  if (used + lengthBytes > slab.length) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    used = 0;
  }
  const bytes = slab.subarray(used, used + lengthBytes);
  used += lengthBytes;
  return bytes;
}

/** The chunks one after the other, copied: their owner may write to them again. */
export function joined(chunks: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  const bytes = takeBytes(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
