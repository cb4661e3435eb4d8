/**
 * Memory for what is read: short buffers are cut from a shared piece, which is cheaper than one allocation
 * each. Nothing is ever used again: a piece goes when the last slice of it has gone.
 */
const SLAB_BYTES = 64 * 1024;
/** Longer ones get memory of their own, so that keeping one keeps little else. */
const SHARED_BYTES = 8 * 1024;

let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let used = 0;

/** A buffer with whatever in it, to be filled by the caller and by nobody after that. */
export function freshBuffer(length: number): Buffer {
  if (length > SHARED_BYTES) return Buffer.allocUnsafeSlow(length);
  if (used + length > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    used = 0;
  }
  const cut = slab.subarray(used, used + length);
  // Aligned, as the kernel copies faster that way.
  used += (length + 63) & ~63;
  return cut;
}
