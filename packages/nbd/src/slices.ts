/** Payload as slices of memory that belongs to somebody else: parts of it without a copy. */

/** `length` bytes from `from` on, as slices of the same memory. */
export function cutSlices(slices: readonly Buffer[], from: number, length: number): Buffer[] {
  const cut: Buffer[] = [];
  let skip = from;
  let left = length;
  for (const slice of slices) {
    if (left === 0) break;
    if (skip >= slice.length) {
      skip -= slice.length;
      continue;
    }
    const piece = slice.subarray(skip, skip + left);
    cut.push(piece);
    skip = 0;
    left -= piece.length;
  }
  return cut;
}
