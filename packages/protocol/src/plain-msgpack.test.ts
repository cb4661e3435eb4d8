import { ProtocolFault } from '@rephub/platform';
import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { encodeBody } from './messages.js';
import { checkPlainMsgpack } from './plain-msgpack.js';

const packr = new Packr({ useRecords: false });

function refusal(bytes: readonly number[] | Buffer): string {
  try {
    checkPlainMsgpack(Buffer.from(bytes), 'body');
  } catch (thrown) {
    if (thrown instanceof ProtocolFault && thrown.code === 'bad-body') return thrown.message;
    throw thrown;
  }
  return 'accepted';
}

describe('plain msgpack', () => {
  test('whatever we encode is accepted', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 10 }), fc.uint8Array({ maxLength: 300 }), (value, bytes) => {
        expect(refusal(encodeBody({ value, bytes: Buffer.from(bytes), missing: undefined }))).toBe('accepted');
      }),
    );
    const wide = {
      list: Array.from({ length: 70_000 }, (_, index) => index),
      text: 'x'.repeat(70_000),
      n: -(2 ** 40),
      f: 1.5,
    };
    expect(refusal(encodeBody(wide))).toBe('accepted');
    const manyKeys = Object.fromEntries(wide.list.slice(0, 60_000).map((key) => [`k${key}`, null]));
    expect(refusal(encodeBody(manyKeys))).toBe('accepted');
  });

  test.each<[string, number[], RegExp]>([
    ['nothing at all', [], /cut short/],
    ['an array of four billion', [0xdd, 0xff, 0xff, 0xff, 0xff], /claims more/],
    ['a map of four billion', [0xdf, 0xff, 0xff, 0xff, 0xff], /claims more/],
    ['a string that is not there', [0xdb, 0xff, 0xff, 0xff, 0xff, 0x61], /claims more/],
    ['a length that is cut', [0xdb, 0xff], /cut short/],
    ['a number that is cut', [0xcf, 1, 2], /claims more/],
    ['two values', [0x01, 0x02], /1 bytes after its end/],
    ['a record definition, which the decoder compiles', [0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01], /extension/],
    ['a regular expression', [0xd4, 0x78, 0x00, 0x92, 0xa1, 0x61, 0xa0], /extension/],
    ['an extension of many bytes', [0xc7, 0x01, 0x05, 0x00], /kind 0xc7/],
    ['the byte that msgpack never uses', [0xc1], /kind 0xc1/],
  ])('%s is refused', (_what, bytes, why) => {
    expect(refusal(bytes)).toMatch(why);
  });

  test('nesting without end is refused without recursion', () => {
    expect(refusal(Buffer.concat([Buffer.alloc(1_000_000, 0x91), Buffer.from([1])]))).toMatch(/nested deeper/);
    const claims = Buffer.alloc(1_000_000);
    for (let at = 0; at < 5_000; at += 5) claims.set([0xdd, 0x00, 0x0e, 0x00, 0x00], at);
    expect(refusal(claims)).toMatch(/nested deeper/);
  });

  test('of random bytes it accepts only what the decoder takes as well', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const buffer = Buffer.from(bytes);
        if (refusal(buffer) !== 'accepted') return;
        accepted += 1;
        expect(() => {
          packr.unpack(buffer);
        }).not.toThrow(/Unexpected end/);
      }),
      { numRuns: 20_000 },
    );
    expect(accepted).toBeGreaterThan(10);
  });
});
