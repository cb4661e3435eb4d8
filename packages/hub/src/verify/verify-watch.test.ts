import { SAMPLE_CAUSE, type VerifyReport } from '@rephub/protocol';
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

function watched(): {
  watch: VerifyWatch;
  told: string[];
  counters: { differsBytes: number };
  disk: { isSynced: boolean };
} {
  const told: string[] = [];
  const counters = { differsBytes: 0 };
  const disk = { isSynced: false };
  const tell = (level: string, event: string): void => void told.push(`${level} ${event}`);
  return { watch: new VerifyWatch('vm1', tell, () => () => disk.isSynced, counters), told, counters, disk };
}

test('a difference is an event once, more of it another, and the end one more', () => {
  const { watch, told } = watched();
  watch.heard({ verify: null, startSample: null });
  watch.heard({ verify: running, startSample: null });
  expect(told).toEqual([]);
  const differing = { ...running, bytesDiffer: 5, differs: [{ volume: 'disk0', offset: 0, length: 5 }] };
  watch.heard({ verify: differing, startSample: null });
  watch.heard({ verify: differing, startSample: null });
  expect(told).toEqual(['error verify-differs']);
  const ended = { ...differing, bytesDiffer: 9, bytesSame: 91, finishedAt: 'now' };
  watch.heard({ verify: ended, startSample: null });
  watch.heard({ verify: ended, startSample: null });
  expect(told).toEqual(['error verify-differs', 'error verify-differs', 'error verify-ended']);
});

test('a verification that found all the same is told at its end, each one', () => {
  const { watch, told } = watched();
  watch.heard({ verify: null, startSample: null });
  const same = { ...running, bytesSame: 100, finishedAt: 'now' };
  watch.heard({ verify: same, startSample: null });
  watch.heard({ verify: { ...same, id: 'b' }, startSample: null });
  expect(told).toEqual(['info verify-ended', 'info verify-ended']);
});

test('one that could not tell is a warning', () => {
  const { watch, told } = watched();
  watch.heard({ verify: running, startSample: null });
  watch.heard({
    verify: { ...running, bytesUnknown: 90, reason: 'left the hub', finishedAt: 'now' },
    startSample: null,
  });
  expect(told).toEqual(['warn verify-ended']);
});

test('a sample that differs is an event, once; one that found all the same says nothing', () => {
  const { watch, told } = watched();
  const sample = { ...running, cause: 'sample at start' };
  watch.heard({ verify: null, startSample: null });
  watch.heard({ verify: null, startSample: sample });
  watch.heard({ verify: null, startSample: { ...sample, id: 'b', bytesSame: 100, finishedAt: 'now' } });
  expect(told).toEqual([]);
  const differing = { ...sample, id: 'c', bytesDiffer: 5, finishedAt: 'now' };
  watch.heard({ verify: null, startSample: differing });
  watch.heard({ verify: null, startSample: differing });
  expect(told).toEqual(['error changed-behind']);
});

test('what was over when the hub first heard the agent is no news', () => {
  const { watch, told } = watched();
  const same = { ...running, bytesSame: 100, finishedAt: 'now' };
  watch.heard({ verify: same, startSample: same });
  watch.heard({ verify: same, startSample: same });
  expect(told).toEqual([]);
  watch.heard({ verify: { ...same, id: 'b' }, startSample: same });
  expect(told).toEqual(['info verify-ended']);
});

test('a difference that was found before the hub first heard the agent is told, and when it was found', () => {
  const messages: string[] = [];
  const tell = (_level: string, event: string, message: string): void => void messages.push(`${event}: ${message}`);
  const watch = new VerifyWatch('vm1', tell, () => () => false, { differsBytes: 0 });
  const differing = { ...running, bytesDiffer: 5, bytesSame: 95, finishedAt: '2026-01-02T03:04:05Z' };
  watch.heard({ verify: differing, startSample: { ...differing, id: 'sample', cause: SAMPLE_CAUSE } });
  watch.heard({ verify: differing, startSample: { ...differing, id: 'sample', cause: SAMPLE_CAUSE } });
  expect(messages.map((message) => message.split(':')[0])).toEqual(['verify-differs', 'changed-behind']);
  for (const message of messages) expect(message).toContain('before this hub heard the agent, at 2026-01-02T03:04:05Z');
  expect(messages[1]).not.toContain('compared now');
});

test('a difference that an earlier process of the agent has found is told once, and counted', () => {
  const { watch, told, counters } = watched();
  watch.heard({ verify: null, startSample: null });
  const left = { ...running, id: 'left', bytesDiffer: 5 };
  for (let beat = 0; beat < 3; beat += 1) watch.heard({ verify: running, untold: [left] });
  expect(told).toEqual(['error verify-differs']);
  expect(counters.differsBytes).toBe(5);
  watch.heard({ untold: [{ ...left, id: 'sampled', cause: SAMPLE_CAUSE }] });
  expect(told).toEqual(['error verify-differs', 'error changed-behind']);
  expect(counters.differsBytes).toBe(10);
});

test('a difference counts as kept when its newest event is on the disk, and only while the agent speaks of it', () => {
  const { watch, disk } = watched();
  const differing = { ...running, bytesDiffer: 5 };
  watch.heard({ verify: differing, untold: [{ ...differing, id: 'left', bytesDiffer: 7 }] });
  expect(watch.kept).toEqual([]);
  disk.isSynced = true;
  expect(watch.kept).toEqual([
    { id: 'left', bytesDiffer: 7 },
    { id: 'a', bytesDiffer: 5 },
  ]);
  watch.heard({ verify: { ...running, id: 'b' } });
  expect(watch.kept).toEqual([]);
});
