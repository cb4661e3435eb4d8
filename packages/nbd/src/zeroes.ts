/** A shared run of zero bytes that nobody writes to: slices of it stand for holes wherever data is expected. */

/** 1 MiB of zeroes, in memory of its own (never from Buffer's pool), so that its identity can be recognised. */
export const ZEROES: Buffer = Buffer.from(new ArrayBuffer(1024 * 1024));

/** Appends slices of ZEROES that make up `length` bytes. */
export function appendZeroes(data: Buffer[], length: number): void {
  let left = length;
  while (left > 0) {
    const step = Math.min(left, ZEROES.length);
    data.push(step === ZEROES.length ? ZEROES : ZEROES.subarray(0, step));
    left -= step;
  }
}
