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

/** With the volumes `disk0`, `disk1` and `data` in the list, as far as nothing else is said. */
const doubt = (
  seen: readonly SeenFile[],
  notes: Readonly<Record<string, string>>,
  clean: boolean,
  listed: readonly string[] = ['disk0', 'disk1', 'data'],
): string | null =>
  doubtOf(
    seen,
    notes,
    clean,
    listed.map((name) => ({ name })),
  );

describe('a disk that was changed while no agent was between (promise SUPERSET)', () => {
  it('after a crash: a change later than the last sign of life and what it may be late by', () => {
    const notes = { alive: String(NOON) };
    expect(doubt([file({ changedUnixMs: NOON + 39_000 })], notes, false)).toBeNull();
    expect(doubt([file({ changedUnixMs: NOON - 3_600_000 })], notes, false)).toBeNull();
    const reason = doubt([file({ changedUnixMs: NOON + 41_000 }), file({ volume: 'data' })], notes, false);
    expect(reason).toContain('disk0 /vm/disk0.raw');
    expect(reason).not.toContain('data');
  });

  it('says nothing where nothing was noted', () => {
    expect(doubt([file()], {}, false)).toBeNull();
    expect(doubt([file()], {}, true)).toBeNull();
  });

  it('after an orderly stop: anything that is not as it was noted', () => {
    const notes = { 'files-stopped': noteOf([file()]) };
    expect(doubt([file()], notes, true)).toBeNull();
    for (const other of [{ inode: '78' }, { changedUnixMs: NOON - 1 }, { volume: 'disk1' }]) {
      expect(doubt([file(other)], notes, true)).toContain('since the agent stopped');
    }
    expect(doubt([], notes, true)).not.toBeNull();
  });

  it('after an orderly stop: a volume that is added is no doubt, and any number of them fits into a note', () => {
    const added = file({ volume: 'disk1', inode: '78' });
    expect(doubt([file(), added], { 'files-stopped': noteOf([file()]) }, true)).toBeNull();
    const many = Array.from({ length: 250 }, (_, index) => file({ volume: `volume-${index}` }));
    const note = noteOf(many);
    expect(note.length).toBeLessThan(1024);
    const names = many.map(({ volume }) => volume);
    expect(doubt(many, { 'files-stopped': note }, true, names)).toBeNull();
    expect(
      doubt([file({ volume: 'volume-0', changedUnixMs: 1 }), ...many.slice(1)], { 'files-stopped': note }, true, names),
    ).not.toBeNull();
  });

  it('after an orderly stop: a volume that is taken out of the list is no doubt; one that tells no longer is', () => {
    const data = file({ volume: 'data', inode: '78' });
    const notes = { 'files-stopped': noteOf([file(), data]) };
    expect(doubt([file()], notes, true, ['disk0'])).toBeNull();
    expect(doubt([file()], notes, true, ['disk0', 'data'])).not.toBeNull();
    expect(doubt([file({ inode: '79' })], notes, true, ['disk0'])).not.toBeNull();
  });
});
