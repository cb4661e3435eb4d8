import { describe, expect, it } from 'vitest';
import { closesTop, type Holdings, reasonToExpire, reasonToFold } from './retention.js';

const LIMITS = { retentionMs: 60_000, journalMaxBytes: 10_000_000 };
const HELD: Holdings = {
  newestTimeUs: 1_000_000_000,
  oldestLayerTimeUs: 999_000_000,
  waitingMs: 5000,
  oldestLayerBytes: 1000,
  index: 'fits',
  journalBytes: 1000,
  hasLastGood: true,
  diskFull: false,
  roomWanted: 'nothing',
  draining: false,
};

describe('retention', () => {
  it.each([
    ['young history stays', {}, null],
    ['what is older than the retention goes', { oldestLayerTimeUs: 900_000_000 }, 'age'],
    ['history goes when the index is full', { index: 'over' }, 'index-memory'],
    ['history goes when the journal is full', { journalBytes: 10_000_001 }, 'journal-size'],
    ['history goes when the disk is full', { diskFull: true }, 'disk-full'],
    ['history goes when room runs low', { roomWanted: 'history' }, 'room'],
    ['history goes when a resync needs the room', { roomWanted: 'points' }, 'room'],
    ['a first sync is applied at once', { hasLastGood: false }, 'first-sync'],
    ['a first sync waits for a little company', { hasLastGood: false, waitingMs: 10 }, null],
    ['a drain takes everything', { draining: true }, 'drain'],
  ] as const)('%s', (_what, change, reason) => {
    expect(reasonToFold(LIMITS, { ...HELD, ...change })).toBe(reason);
  });

  it('with retention 0 a layer goes when it is large or has waited', () => {
    const limits = { ...LIMITS, retentionMs: 0 };
    expect(reasonToFold(limits, { ...HELD, waitingMs: 10 })).toBeNull();
    expect(reasonToFold(limits, { ...HELD, waitingMs: 1000 })).toBe('age');
    expect(reasonToFold(limits, { ...HELD, waitingMs: 10, oldestLayerBytes: 2 ** 24 })).toBe('age');
  });

  it('points are taken away only for hard limits', () => {
    expect(reasonToExpire(LIMITS, { ...HELD, index: 'over' })).toBeNull();
    expect(reasonToExpire(LIMITS, { ...HELD, index: 'far-over' })).not.toBeNull();
    expect(reasonToExpire(LIMITS, { ...HELD, journalBytes: 10_000_001 })).not.toBeNull();
    expect(reasonToExpire(LIMITS, { ...HELD, oldestLayerTimeUs: 0 })).toBeNull();
    expect(reasonToExpire(LIMITS, { ...HELD, roomWanted: 'history' })).toBeNull();
    expect(reasonToExpire(LIMITS, { ...HELD, roomWanted: 'points' })).toBe('a resync needs the room');
  });

  it('the top layer ends in time to let history go in pieces', () => {
    const top = { bytes: 1000, extents: 10, ageUs: 1000 };
    expect(closesTop(LIMITS, 1_000_000, top)).toBe(false);
    expect(closesTop(LIMITS, 5_000, top)).toBe(true);
    expect(closesTop(LIMITS, 1_000_000, { ...top, extents: 10_000 })).toBe(true);
    expect(closesTop(LIMITS, 1_000_000, { ...top, bytes: 1_000_000 })).toBe(true);
    expect(closesTop(LIMITS, 1_000_000, { ...top, ageUs: 5_000_000 })).toBe(true);
  });
});
