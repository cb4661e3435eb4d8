import { describe, expect, it } from 'vitest';
import { doubtOf, noteOf, type SeenFile } from './upstream-watch.js';

const NOON = Date.UTC(2026, 5, 1, 12);
const file = (changes: Partial<SeenFile> = {}): SeenFile => ({
  volume: 'disk0',
  path: '/vm/disk0.raw',
  inode: '77',
  changedUnixMs: NOON,
  ...changes,
});

describe('a disk that was changed while no agent was between (promise SUPERSET)', () => {
  it('after a crash: a change later than the last sign of life and what it may be late by', () => {
    const notes = { alive: String(NOON) };
    expect(doubtOf([file({ changedUnixMs: NOON + 39_000 })], notes, false)).toBeNull();
    expect(doubtOf([file({ changedUnixMs: NOON - 3_600_000 })], notes, false)).toBeNull();
    const reason = doubtOf([file({ changedUnixMs: NOON + 41_000 }), file({ volume: 'data' })], notes, false);
    expect(reason).toContain('disk0 /vm/disk0.raw');
    expect(reason).not.toContain('data');
  });

  it('says nothing where nothing was noted', () => {
    expect(doubtOf([file()], {}, false)).toBeNull();
    expect(doubtOf([file()], {}, true)).toBeNull();
  });

  it('after an orderly stop: anything that is not as it was noted', () => {
    const notes = { 'files-stopped': noteOf([file()]) };
    expect(doubtOf([file()], notes, true)).toBeNull();
    for (const other of [{ inode: '78' }, { changedUnixMs: NOON - 1 }, { volume: 'disk1' }]) {
      expect(doubtOf([file(other)], notes, true)).toContain('since the agent stopped');
    }
    expect(doubtOf([], notes, true)).not.toBeNull();
  });

  it('after an orderly stop: a volume that is added is no doubt, and any number of them fits into a note', () => {
    const added = file({ volume: 'disk1', inode: '78' });
    expect(doubtOf([file(), added], { 'files-stopped': noteOf([file()]) }, true)).toBeNull();
    const many = Array.from({ length: 250 }, (_, index) => file({ volume: `volume-${index}` }));
    const note = noteOf(many);
    expect(note.length).toBeLessThan(1024);
    expect(doubtOf(many, { 'files-stopped': note }, true)).toBeNull();
    expect(
      doubtOf([file({ volume: 'volume-0', changedUnixMs: 1 }), ...many.slice(1)], { 'files-stopped': note }, true),
    ).not.toBeNull();
  });
});
