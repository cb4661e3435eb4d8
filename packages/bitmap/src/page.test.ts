import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { geometryOf, PAGE_BYTES, PAGE_HEADER_BYTES } from './geometry.js';
import { choosePage, decodeMapHeader, encodeMapHeader, sealPage, tagOf } from './page.js';

const AGENT = '0b0e7a0c-31a9-4c1e-8a54-0a4c1c1f2d3e';
const PATH = '/state/disk0.map';
const TAG = 0xdead_beef;

function pageOf(sequence: number, page = 3, tag = TAG): Buffer {
  const image = new SeededRandomness(sequence).bytes(PAGE_BYTES);
  sealPage(image, page, sequence, 2 ** 45 + sequence, tag);
  return image;
}

const torn = (image: Buffer): Buffer => Buffer.concat([image.subarray(0, 1024), pageOf(99).subarray(1024)]);

describe('pages of a map', () => {
  it('the newer of two whole copies counts', () => {
    expect(choosePage([pageOf(6), pageOf(7)], PATH, 3, TAG, null)).toEqual({
      sequence: 7,
      restsOn: 2 ** 45 + 7,
      copy: 1,
      torn: false,
    });
    expect(choosePage([pageOf(8), pageOf(7)], PATH, 3, TAG, 'either')).toMatchObject({ sequence: 8, copy: 0 });
  });

  it('a torn copy that was announced leaves the other; one that was not is rot', () => {
    expect(choosePage([torn(pageOf(8)), pageOf(7)], PATH, 3, TAG, 'either')).toMatchObject({ sequence: 7, torn: true });
    expect(() => choosePage([torn(pageOf(8)), pageOf(7)], PATH, 3, TAG, null)).toThrow('was not being written');
    expect(choosePage([torn(pageOf(8)), pageOf(7)], PATH, 3, TAG, 0)).toMatchObject({ sequence: 7, torn: true });
    expect(() => choosePage([torn(pageOf(8)), pageOf(7)], PATH, 3, TAG, 1)).toThrow('was not being written');
    expect(choosePage([pageOf(8), torn(pageOf(7))], PATH, 3, TAG, 1)).toMatchObject({ sequence: 8, torn: true });
    expect(() => choosePage([torn(pageOf(8)), torn(pageOf(7))], PATH, 3, TAG, 'either')).toThrow('no copy of page 3');
  });

  it('copies that are not successive, of another page, place or map are refused', () => {
    expect(() => choosePage([pageOf(8), pageOf(5)], PATH, 3, TAG, 'either')).toThrow('not successive');
    expect(() => choosePage([pageOf(6, 4), pageOf(7, 4)], PATH, 3, TAG, 'either')).toThrow('no copy');
    expect(() => choosePage([pageOf(7), pageOf(6)], PATH, 3, TAG, 'either')).toThrow('no copy');
    expect(() => choosePage([pageOf(6, 3, 1), pageOf(7, 3, 1)], PATH, 3, TAG, 'either')).toThrow('another map');
  });

  it('CORRUPT: every flipped bit is noticed', () => {
    for (let bit = 0; bit < PAGE_BYTES * 8; bit += 13) {
      const image = pageOf(7);
      image[bit >>> 3]! ^= 1 << (bit & 7);
      expect(() => choosePage([pageOf(6), image], PATH, 3, TAG, null)).toThrow('was not being written');
    }
  });

  it('the header says whose map it is, and its rot is noticed', () => {
    const geometry = geometryOf({ index: 254, name: 'a'.repeat(64), sizeBytes: 2 ** 46 }, 1024 * 1024);
    const block = encodeMapHeader(AGENT, geometry);
    expect(decodeMapHeader(block, PATH)).toEqual({
      agentId: AGENT,
      index: 254,
      name: 'a'.repeat(64),
      granularityBytes: 1024 * 1024,
      sizeBytes: 2 ** 46,
    });
    const other = encodeMapHeader(AGENT, { ...geometry, index: 1 });
    expect(tagOf(other)).not.toBe(tagOf(block));
    for (let bit = 0; bit < PAGE_BYTES * 8; bit += 13) {
      block[bit >>> 3]! ^= 1 << (bit & 7);
      expect(() => decodeMapHeader(block, PATH)).toThrow(PATH);
      block[bit >>> 3]! ^= 1 << (bit & 7);
    }
    expect(block.subarray(0, PAGE_HEADER_BYTES).length).toBe(32);
  });
});
