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
  watch.heard(null, null);
  watch.heard(running, null);
  expect(told).toEqual([]);
  const differing = { ...running, bytesDiffer: 5, differs: [{ volume: 'disk0', offset: 0, length: 5 }] };
  watch.heard(differing, null);
  watch.heard(differing, null);
  expect(told).toEqual(['error verify-differs']);
  const ended = { ...differing, bytesDiffer: 9, bytesSame: 91, finishedAt: 'now' };
  watch.heard(ended, null);
  watch.heard(ended, null);
  expect(told).toEqual(['error verify-differs', 'error verify-differs', 'error verify-ended']);
});

test('a verification that found all the same is told at its end, each one', () => {
  const { watch, told } = watched();
  watch.heard(null, null);
  const same = { ...running, bytesSame: 100, finishedAt: 'now' };
  watch.heard(same, null);
  watch.heard({ ...same, id: 'b' }, null);
  expect(told).toEqual(['info verify-ended', 'info verify-ended']);
});

test('one that could not tell is a warning', () => {
  const { watch, told } = watched();
  watch.heard(running, null);
  watch.heard({ ...running, bytesUnknown: 90, reason: 'left the hub', finishedAt: 'now' }, null);
  expect(told).toEqual(['warn verify-ended']);
});

test('a sample that differs is an event, once; one that found all the same says nothing', () => {
  const { watch, told } = watched();
  const sample = { ...running, cause: 'sample at start' };
  watch.heard(null, null);
  watch.heard(null, sample);
  watch.heard(null, { ...sample, id: 'b', bytesSame: 100, finishedAt: 'now' });
  expect(told).toEqual([]);
  const differing = { ...sample, id: 'c', bytesDiffer: 5, finishedAt: 'now' };
  watch.heard(null, differing);
  watch.heard(null, differing);
  expect(told).toEqual(['error changed-behind']);
});

test('what was over when the hub first heard the agent is no news', () => {
  const { watch, told } = watched();
  const same = { ...running, bytesSame: 100, finishedAt: 'now' };
  watch.heard(same, same);
  watch.heard(same, same);
  expect(told).toEqual([]);
  watch.heard({ ...same, id: 'b' }, same);
  expect(told).toEqual(['info verify-ended']);
});

test('a difference that was found before the hub first heard the agent is told, and when it was found', () => {
  const messages: string[] = [];
  const watch = new VerifyWatch('vm1', (_level, event, message) => messages.push(`${event}: ${message}`));
  const differing = { ...running, bytesDiffer: 5, bytesSame: 95, finishedAt: '2026-01-02T03:04:05Z' };
  watch.heard(differing, { ...differing, id: 'sample' });
  watch.heard(differing, { ...differing, id: 'sample' });
  expect(messages.map((message) => message.split(':')[0])).toEqual(['verify-differs', 'changed-behind']);
  for (const message of messages) expect(message).toContain('before this hub heard the agent, at 2026-01-02T03:04:05Z');
  expect(messages[1]).not.toContain('compared now');
});
