import type { VerifyReport } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { VerifyWatch } from './verify-watch.js';

const running: VerifyReport = {
  id: 'a',
  cause: 'scheduled',
  startedAt: 'then',
  finishedAt: null,
  bytesTotal: 100,
  bytesSame: 10,
  bytesDiffer: 0,
  bytesUnknown: 0,
  differs: [],
  reason: null,
};

function watched(): { watch: VerifyWatch; told: string[] } {
  const told: string[] = [];
  return { watch: new VerifyWatch('vm1', (level, event) => told.push(`${level} ${event}`)), told };
}

test('a difference is an event once, more of it another, and the end one more', () => {
  const { watch, told } = watched();
  watch.seen(null);
  watch.seen(running);
  expect(told).toEqual([]);
  const differing = { ...running, bytesDiffer: 5, differs: [{ volume: 'disk0', offset: 0, length: 5 }] };
  watch.seen(differing);
  watch.seen(differing);
  expect(told).toEqual(['error verify-differs']);
  const ended = { ...differing, bytesDiffer: 9, bytesSame: 91, finishedAt: 'now' };
  watch.seen(ended);
  watch.seen(ended);
  expect(told).toEqual(['error verify-differs', 'error verify-differs', 'error verify-ended']);
});

test('a verification that found all the same is told at its end, each one', () => {
  const { watch, told } = watched();
  const same = { ...running, bytesSame: 100, finishedAt: 'now' };
  watch.seen(same);
  watch.seen({ ...same, id: 'b' });
  expect(told).toEqual(['info verify-ended', 'info verify-ended']);
});

test('one that could not tell is a warning', () => {
  const { watch, told } = watched();
  watch.seen({ ...running, bytesUnknown: 90, reason: 'left the hub', finishedAt: 'now' });
  expect(told).toEqual(['warn verify-ended']);
});

test('a sample that differs is an event, once; one that found all the same says nothing', () => {
  const { watch, told } = watched();
  const sample = { ...running, cause: 'sample at start' };
  watch.sampled(null);
  watch.sampled(sample);
  watch.sampled({ ...sample, id: 'b', bytesSame: 100, finishedAt: 'now' });
  expect(told).toEqual([]);
  const differing = { ...sample, id: 'c', bytesDiffer: 5, finishedAt: 'now' };
  watch.sampled(differing);
  watch.sampled(differing);
  expect(told).toEqual(['error changed-behind']);
});
