/** Payload as slices of the chunks it came in. */
import { releaseBytes } from '@rephub/platform';

/** Slices a payload may have however short it is. */
const FREE_SLICES = 64;
const MEAN_SLICE_BYTES = 512;

/**
 * Appends a slice of a payload of which `bytesBefore` are there already. A peer that sends its payload in
 * crumbs would cost an object for each of them: when slices are tiny on average they are joined by copying,
 * and the joined ones released.
 */
export function appendSlice(data: Buffer[], slice: Buffer, bytesBefore: number): void {
  if (data.length > FREE_SLICES + bytesBefore / MEAN_SLICE_BYTES) {
    const joined = Buffer.concat(data);
    releaseBytes(data);
    data.length = 0;
    data.push(joined);
  }
  data.push(slice);
}

export function totalBytes(data: readonly Buffer[]): number {
  let total = 0;
  for (const slice of data) total += slice.length;
  return total;
}
