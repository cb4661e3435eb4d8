import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { crc32, nativeCrc32 } from './checksum.js';

test('the check value of CRC-32', () => {
  expect(crc32(Buffer.from('123456789'))).toBe(0xcb_f4_39_26);
  expect(crc32(Buffer.alloc(0))).toBe(0);
});

test("the native one gives zlib's values for any bytes, at any address, cut anywhere", () => {
  // Built for every machine that the tests run on.
  const native = nativeCrc32;
  if (native === null) throw new Error('@node-rs/crc32 was not loaded');
  const memory = Buffer.alloc(70_000);
  for (let at = 0; at < memory.length; at += 1) memory[at] = (at * 2_654_435_761) >>> 13;
  fc.assert(
    fc.property(fc.nat(64), fc.nat(69_000), fc.nat(69_000), (from, length, cut) => {
      const bytes = memory.subarray(from, from + length);
      const at = Math.min(cut, length);
      expect(native(bytes)).toBe(zlibCrc32(bytes));
      expect(native(bytes.subarray(at), native(bytes.subarray(0, at)))).toBe(zlibCrc32(bytes));
    }),
  );
});
