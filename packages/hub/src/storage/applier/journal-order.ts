/**
 * Puts many pieces into (nearly) the journal's order quickly: a radix sort over typed arrays, because comparing tens
 * of thousands of objects would keep the event loop, and with it receiving, waiting.
 *
 * Positions are told apart to 1/2^32 of the range that they span: pieces closer than that may change places.
 */
const DIGIT_BITS = 11;
const DIGITS = 1 << DIGIT_BITS;
const TWO_32 = 2 ** 32;

/** The pieces in order of position. */
export function inJournalOrder<T extends { readonly position: number }>(pieces: readonly T[]): T[] {
  const { length } = pieces;
  let lowest = Infinity;
  let highest = 0;
  for (const { position } of pieces) {
    if (position < lowest) lowest = position;
    if (position > highest) highest = position;
  }
  const scale = Math.max(1, Math.ceil((highest - lowest + 1) / TWO_32));
  const keys = new Uint32Array(length);
  let order = new Uint32Array(length);
  let spare = new Uint32Array(length);
  for (const [index, { position }] of pieces.entries()) {
    keys[index] = Math.floor((position - lowest) / scale);
    order[index] = index;
  }
  const counts = new Uint32Array(DIGITS);
  for (let shift = 0; shift < 32; shift += DIGIT_BITS) {
    counts.fill(0);
    for (const key of keys) {
      const digit = (key >>> shift) & (DIGITS - 1);
      counts[digit] = (counts[digit] as number) + 1;
    }
    let at = 0;
    for (let digit = 0; digit < DIGITS; digit += 1) {
      const count = counts[digit] as number;
      counts[digit] = at;
      at += count;
    }
    for (const index of order) {
      const digit = ((keys[index] as number) >>> shift) & (DIGITS - 1);
      const to = counts[digit] as number;
      spare[to] = index;
      counts[digit] = to + 1;
    }
    [order, spare] = [spare, order];
  }
  return Array.from(order, (index) => pieces[index] as T);
}
