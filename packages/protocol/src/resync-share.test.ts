import { expect, test } from 'vitest';
import { resyncShare } from './resync-share.js';

const MIB = 1024 * 1024;
const told = { cause: 'first sync', bytesDone: 900 * MIB, bytesTotal: 1000 * MIB, etaSeconds: null };

test('a percentage speaks of what is read, not of holes', () => {
  const resync = { ...told, holeBytesDone: 890 * MIB, holeBytesTotal: 900 * MIB };
  expect(resyncShare(resync)).toEqual({ dataBytesDone: 10 * MIB, dataBytes: 100 * MIB, percent: 10 });
});

test('while nobody knows how much is holes, and from an older agent, it speaks of all', () => {
  expect(resyncShare(told)).toEqual({ dataBytesDone: 900 * MIB, dataBytes: 1000 * MIB, percent: 90 });
  expect(resyncShare({ ...told, holeBytesDone: 890 * MIB }).percent).toBe(90);
});

test('it is 100 when all is done, and not before', () => {
  expect(resyncShare({ ...told, bytesDone: 1000 * MIB }).percent).toBe(100);
  expect(resyncShare({ ...told, bytesTotal: 0, bytesDone: 0 }).percent).toBe(100);
  const onlyHoles = { ...told, holeBytesDone: 900 * MIB, holeBytesTotal: 1000 * MIB };
  expect(resyncShare(onlyHoles)).toEqual({ dataBytesDone: 0, dataBytes: 0, percent: 99 });
  const written = { ...told, holeBytesDone: 100 * MIB, holeBytesTotal: 500 * MIB };
  expect(resyncShare(written)).toEqual({ dataBytesDone: 800 * MIB, dataBytes: 800 * MIB, percent: 99 });
});
