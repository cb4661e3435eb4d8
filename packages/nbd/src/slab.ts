/**
 * Memory for what is read. Short buffers are cut from a shared piece, which is cheaper than one allocation each; nothing of
 * it is used again, and it goes when the last slice of it has gone. Long ones are counted (`@rephub/platform`,
 * counted-memory.ts) and held by the caller: released, their memory serves the next read, which saves the kernel the
 * clearing of pages and the garbage collector most of its work.
 */
import { SlabPool } from '@rephub/platform';

const SLAB_BYTES = 64 * 1024;
/** Longer ones get memory of their own, so that keeping one keeps little else. */
const SHARED_BYTES = 8 * 1024;
/** Counted buffers have powers of two for sizes, so that they fit the next read; longer ones are rare and not kept. */
const SHORTEST_COUNTED_BYTES = 16 * 1024;
const LONGEST_COUNTED_BYTES = 4 * 1024 * 1024;
const KEPT_BYTES = 16 * 1024 * 1024;

const pool = new SlabPool(KEPT_BYTES);
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let used = 0;

/** A buffer with whatever in it, to be filled by the caller; the `data` of a read, so that its owner may release it. */
export function freshBuffer(length: number): Buffer {
  if (length > LONGEST_COUNTED_BYTES) return Buffer.allocUnsafeSlow(length);
  if (length > SHARED_BYTES) return counted(length);
  if (used + length > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    used = 0;
  }
  const cut = slab.subarray(used, used + length);
  // Aligned, as the kernel copies faster that way.
  used += (length + 63) & ~63;
  return cut;
}

function counted(length: number): Buffer {
  const { memory } = pool.take(Math.max(SHORTEST_COUNTED_BYTES, 2 ** Math.ceil(Math.log2(length))));
  return length === memory.length ? memory : memory.subarray(0, length);
}
