import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { counted, u16, u32 } from '../testing/raw-peer.js';
import { parseInfoOption, parseMetaOption, selectContexts } from './option-data.js';

const name = fc.string({ unit: 'grapheme', maxLength: 40 });

describe("an option's data", () => {
  it('of INFO and GO is read as it was written', () => {
    fc.assert(
      fc.property(name, fc.array(fc.nat(0xffff), { maxLength: 20 }), (exportName, infos) => {
        const parsed = parseInfoOption(Buffer.concat([counted(exportName), u16(infos.length), ...infos.map(u16)]));
        expect(parsed).toEqual({ name: exportName, infos: new Set(infos) });
      }),
    );
  });

  it('of the metadata options is read as it was written', () => {
    fc.assert(
      fc.property(name, fc.array(name, { maxLength: 20 }), (exportName, queries) => {
        const parsed = parseMetaOption(
          Buffer.concat([counted(exportName), u32(queries.length), ...queries.map(counted)]),
        );
        expect(parsed).toEqual({ name: exportName, queries });
      }),
    );
  });

  it('that is cut anywhere, or has more behind it, is malformed', () => {
    const info = Buffer.concat([counted('disk'), u16(2), u16(1), u16(3)]);
    const meta = Buffer.concat([counted('disk'), u32(2), counted('base:'), counted('rephub:dirty')]);
    for (let length = 0; length < info.length; length++) expect(parseInfoOption(info.subarray(0, length))).toBe(null);
    for (let length = 0; length < meta.length; length++) expect(parseMetaOption(meta.subarray(0, length))).toBe(null);
    expect(parseInfoOption(Buffer.concat([info, u16(0)]))).toBe(null);
    expect(parseMetaOption(Buffer.concat([meta, u32(0)]))).toBe(null);
  });

  it('of random bytes is read or malformed, and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        for (const parse of [parseInfoOption, parseMetaOption]) {
          const parsed = parse(Buffer.from(bytes));
          if (parsed !== null) expect(Buffer.byteLength(parsed.name)).toBeLessThanOrEqual(3 * bytes.length);
        }
      }),
    );
  });

  it('with a query longer than any string may be is malformed', () => {
    const long = (length: number): Buffer => Buffer.concat([counted('disk'), u32(1), counted('x'.repeat(length))]);
    expect(parseMetaOption(long(4096))?.queries).toHaveLength(1);
    expect(parseMetaOption(long(4097))).toBe(null);
  });
});

describe('queries for metadata contexts', () => {
  const available = ['base:allocation', 'rephub:dirty', 'rephub:changed:a', 'rephub:changed:b'];

  it.each([
    ['nothing asked, all listed', [], false, available],
    ['nothing asked, nothing selected', [], true, []],
    ['a namespace listed', ['rephub:'], false, available.slice(1)],
    ['a part of a namespace listed', ['rephub:changed:'], false, available.slice(2)],
    ['a namespace selected', ['rephub:', 'base:'], true, []],
    [
      'several selected, in our order',
      ['rephub:changed:b', 'base:allocation'],
      true,
      ['base:allocation', 'rephub:changed:b'],
    ],
    ['the same twice', ['rephub:dirty', 'rephub:dirty'], true, ['rephub:dirty']],
    ['a name and its namespace', ['rephub:dirty', 'rephub:'], false, available.slice(1)],
    ['unknown namespaces and leaves', ['qemu:dirty-bitmap:x', 'base:none', 'base'], true, []],
    ['no namespace at all', ['', ':'], false, []],
    ['half a name', ['rephub:dir'], false, []],
  ] as const)('%s', (_, queries, isSelection, contexts) => {
    expect(selectContexts(available, queries, isSelection)).toEqual(contexts);
  });
});
