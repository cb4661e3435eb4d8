import { describe, expect, it } from 'vitest';
import { decodeSegmentHeader, encodeSegmentHeader, type SegmentInfo } from './segment-header.js';

function info(volumes: number): SegmentInfo {
  return {
    group: 'vm1',
    hubId: 'hub',
    line: { id: '11111111-2222-4333-8444-555555555555', parent: null },
    base: 64 * 1024 * 1024,
    previousEnd: 64 * 1024 * 1024,
    before: {
      number: 17,
      checksum: 0xdeadbeef,
      timeUs: 1e15,
      spanOpen: true,
      consistentNumber: null,
      consistentTimeUs: 0,
      volumes: Array.from({ length: volumes }, (_, index) => ({
        index,
        name: `disk${index}-${'x'.repeat(50)}`,
        sizeBytes: 2 ** 44,
        added: index + 1,
      })),
      damage: null,
      hasSkipped: false,
    },
  };
}

describe('segment header', () => {
  it.each([0, 1, 256])('comes back as it was, with %i volumes, in whole blocks', (volumes) => {
    const header = encodeSegmentHeader(info(volumes));
    expect(header.length % 4096).toBe(0);
    expect(decodeSegmentHeader(header)).toEqual(info(volumes));
  });

  it('any flipped bit gives an error', () => {
    const header = encodeSegmentHeader(info(1));
    for (let at = 0; at < header.length; at += 1) {
      const spoilt = Buffer.from(header);
      spoilt[at] = (spoilt[at] ?? 0) ^ (1 << (at % 8));
      expect(() => decodeSegmentHeader(spoilt)).toThrow(expect.objectContaining({ kind: 'corruption' }));
    }
  });

  it('a header that is cut short gives an error', () => {
    const header = encodeSegmentHeader(info(256));
    for (const length of [0, 10, 4095, 4096, header.length - 1]) {
      expect(() => decodeSegmentHeader(header.subarray(0, length))).toThrow(
        expect.objectContaining({ kind: 'corruption' }),
      );
    }
  });
});
