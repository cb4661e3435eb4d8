/**
 * CRC-32 (ISO-HDLC, as zlib's) of all that crosses a wire or lies on a disk. Every byte of payload passes here twice, in
 * the agent and in the hub. Node's own counts with tables; the optional @node-rs/crc32 has the processor multiply without
 * carries, at more than twice the speed. Where there is no build of it for this machine, Node's is used.
 */
import { crc32 as zlibCrc32 } from 'node:zlib';

/** `value` is the checksum of the bytes before these, 0 at the beginning. */
export type Crc32 = (bytes: Uint8Array, value?: number) => number;

/** The native one, null where it cannot be loaded or does not count right. */
export const nativeCrc32: Crc32 | null = await import('@node-rs/crc32').then(
  ({ crc32: native }) => (countsRight(native) ? native : null),
  () => null,
);

/** The fastest that there is on this machine. */
export const crc32: Crc32 = nativeCrc32 ?? zlibCrc32;

function countsRight(candidate: Crc32): boolean {
  const sample = Buffer.from('The quick brown fox jumps over the lazy dog. '.repeat(20));
  const cut = 333;
  const inTwo = candidate(sample.subarray(cut), candidate(sample.subarray(0, cut)));
  return inTwo === zlibCrc32(sample) && candidate(sample) === inTwo;
}
