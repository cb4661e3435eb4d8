import { Tracker } from '@rephub/bitmap';
import { silentLogger } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { Standing } from './link/standing.js';
import { doubtOf, noteOf, type SeenFile, UpstreamWatch } from './upstream-watch.js';

const NOON = Date.UTC(2026, 5, 1, 12);
const file = (changes: Partial<SeenFile> = {}): SeenFile => ({
  volume: 'disk0',
  path: '/vm/disk0.raw',
  inode: '77',
  changedUnixMs: NOON,
  ...changes,
});

const LISTED = ['disk0', 'disk1', 'data'].map((name) => ({ name }));
const named = (seen: readonly SeenFile[]): { name: string }[] => seen.map(({ volume }) => ({ name: volume }));
const stopped = (seen: readonly SeenFile[], volumes = named(seen)) => ({ 'files-stopped': noteOf(seen, volumes) });
const killed = (seen: readonly SeenFile[], aliveMs: number) => ({
  'files-open': noteOf(seen, named(seen)),
  alive: String(aliveMs),
});

describe('a disk that was changed while no agent was between (promise SUPERSET)', () => {
  it('after a crash: a change later than the last sign of life and what it may be late by', () => {
    const notes = { alive: String(NOON) };
    expect(doubtOf([file({ changedUnixMs: NOON + 39_000 })], notes, LISTED)).toBeNull();
    const reason = doubtOf([file({ changedUnixMs: NOON + 41_000 }), file({ volume: 'data' })], notes, LISTED);
    expect(reason).toContain('disk0 /vm/disk0.raw');
    expect(reason).not.toContain('data');
  });

  it('after a crash: another file, or one older than it was at the last sign of life', () => {
    const notes = killed([file()], NOON + 5_000);
    for (const same of [{}, { changedUnixMs: NOON + 20_000 }, { changedUnixMs: NOON - 119_000 }]) {
      expect(doubtOf([file(same)], notes, LISTED)).toBeNull();
    }
    for (const other of [{ inode: '78' }, { changedUnixMs: NOON - 121_000 }]) {
      expect(doubtOf([file(other)], notes, LISTED)).toContain('another, or older');
    }
    expect(doubtOf([], notes, LISTED)).not.toBeNull();
  });

  it('after a crash: a clock that was set back makes no file older than it was', () => {
    const backMs = NOON - 3_600_000;
    const notes = { 'files-open': noteOf([file()], named([file()]), backMs), alive: String(backMs) };
    expect(doubtOf([file({ changedUnixMs: backMs + 1_000 })], notes, LISTED)).toBeNull();
  });

  it('says nothing where nothing was noted', () => {
    expect(doubtOf([file()], {}, LISTED)).toBeNull();
  });

  it('after an orderly stop: anything that is not as it was noted', () => {
    const notes = stopped([file()]);
    expect(doubtOf([file()], notes, LISTED)).toBeNull();
    for (const other of [{ inode: '78' }, { changedUnixMs: NOON - 1 }, { changedUnixMs: NOON + 1 }]) {
      expect(doubtOf([file(other)], notes, LISTED)).toContain('since the agent stopped');
    }
    expect(doubtOf([], notes, LISTED)).not.toBeNull();
  });

  it('after an orderly stop: a volume that is added is no doubt; one that has become a file, or is none any more, is', () => {
    const added = file({ volume: 'disk1', inode: '78' });
    expect(doubtOf([file(), added], stopped([file()]), LISTED)).toBeNull();
    const both = named([file(), added]);
    expect(doubtOf([file()], stopped([file()], both), both)).toBeNull();
    expect(doubtOf([file(), added], stopped([file()], both), both)).not.toBeNull();
    expect(doubtOf([file()], stopped([file(), added]), both)).not.toBeNull();
  });

  it('any number of volumes fits into a note, and a change of each is noticed', () => {
    const many = Array.from({ length: 250 }, (_, index) => file({ volume: `volume-${index}` }));
    const notes = stopped(many);
    expect(notes['files-stopped'].length).toBeLessThan(1450);
    expect(doubtOf(many, notes, named(many))).toBeNull();
    const open = killed(many, NOON);
    expect(doubtOf(many, open, named(many))).toBeNull();
    for (const [index, one] of many.entries()) {
      const replaced = many.with(index, { ...one, inode: '78' });
      expect(doubtOf(replaced, notes, named(many))).not.toBeNull();
      expect(doubtOf(replaced, open, named(many))).not.toBeNull();
      expect(doubtOf(many.with(index, { ...one, changedUnixMs: NOON + 1 }), notes, named(many))).not.toBeNull();
    }
  });

  it('after an orderly stop: a volume that is taken out of the list is no doubt; one that tells no longer is', () => {
    const data = file({ volume: 'data', inode: '78' });
    const notes = stopped([file(), data]);
    expect(doubtOf([file()], notes, [{ name: 'disk0' }])).toBeNull();
    expect(doubtOf([file()], notes, [{ name: 'disk0' }, { name: 'data' }])).not.toBeNull();
    expect(doubtOf([file({ inode: '79' })], notes, [{ name: 'disk0' }])).not.toBeNull();
  });
});

/** As many bytes as the notes still take, in a note of their own. */
async function fillNotes(tracker: Tracker): Promise<void> {
  const { notes } = tracker.identity;
  for (let bytes = 4096, isFull = false; !isFull; bytes -= 1) {
    isFull = await tracker.saveIdentity({ notes: { ...notes, full: 'x'.repeat(bytes) } }).then(
      () => true,
      () => false,
    );
  }
}

it('however full the notes are, a start is no sign of an orderly stop, and a mode is left', async () => {
  const [files, clock] = [new SimFiles(), new SimClock()];
  const disk = await files.open('/disk0.raw', 'create');
  await disk.truncate(1024 * 1024);
  const volumes = [{ name: 'disk0', upstream: 'file:/disk0.raw', listen: [] }];
  const tracker = await Tracker.open(
    { files, clock, randomness: new SeededRandomness(7) },
    {
      ...{ directory: '/state', group: 'vm1', volumes: [{ name: 'disk0', sizeBytes: 1024 * 1024 }] },
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    },
  );
  const watch = new UpstreamWatch({ clock, files, log: silentLogger, tracker, volumes, work: () => 0 });
  const standing = new Standing(tracker);
  await standing.noteInForce('sync');
  await watch.noteStopped();
  await fillNotes(tracker);
  await watch.start();
  expect(Object.keys(tracker.identity.notes).sort()).toEqual(['alive', 'full', 'in-force']);
  await fillNotes(tracker);
  await standing.noteInForce('async');
  expect(new Standing(tracker).inForce).toBe('async');
  watch.stop();
});
