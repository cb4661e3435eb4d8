/** A state directory whose volumes come, go and change places: numbers and marks stay with the names. */
import { type CrashFate, SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import type { TrackerOptions } from './options.js';
import { Tracker } from './tracker.js';

const MIB = 1024 * 1024;
const SIZE = 16 * MIB;
const FATES: readonly CrashFate[] = ['lose', 'tear', 'garble', 'mixed', 'keep'];

/** `names` in this order; with `positions` as an older version of this software: the order is the numbers. */
function open(files: SimFiles, names: readonly string[], positions = false, sizeBytes = SIZE): Promise<Tracker> {
  const volumes: TrackerOptions['volumes'] = names.map((name, index) => ({
    name,
    sizeBytes,
    ...(positions ? { index } : {}),
  }));
  return Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(7) },
    {
      directory: '/state',
      group: 'vm1',
      hotExtents: 16,
      volumes,
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    },
  );
}

function numbersOf(tracker: Tracker, names: readonly string[]): number[] {
  return names.map((name) => tracker.indexOf(name));
}

async function mark(tracker: Tracker, name: string, offset: number): Promise<void> {
  const index = tracker.indexOf(name);
  if (!tracker.begin(index, offset, 4096)) await tracker.activate(index, offset, 4096);
  tracker.setDirty(index, offset, 4096);
  tracker.end(index, offset, 4096, tracker.takeTicket(), 0);
}

function copyAll(tracker: Tracker, names: readonly string[]): void {
  for (const index of numbersOf(tracker, names)) {
    for (let run = tracker.nextDirty(index, 0); run !== null; run = tracker.nextDirty(index, 0)) {
      tracker.numbered(tracker.take(index, run.offset, run.length), 1, 0);
    }
  }
  tracker.hubDurable(1);
  for (const index of numbersOf(tracker, names)) tracker.upstreamFlushed(index, tracker.takeTicket());
}

const markedBytes = (tracker: Tracker, name: string): number =>
  [...tracker.runs(tracker.indexOf(name))].reduce((sum, { length }) => sum + length, 0);

/** A directory with these volumes, stopped in order without a mark. */
async function protectedState(names: readonly string[], positions = false): Promise<SimFiles> {
  const files = new SimFiles();
  const tracker = await open(files, names, positions);
  copyAll(tracker, names);
  expect(await tracker.closeClean(1)).toBe(true);
  return files;
}

describe('volumes that come, go and change places between two starts', () => {
  it('another order changes nothing, also in a directory that older software has made', async () => {
    for (const positions of [false, true]) {
      const files = await protectedState(['a', 'b', 'c'], positions);
      const tracker = await open(files, ['c', 'a', 'b']);
      expect([tracker.found, ...numbersOf(tracker, ['a', 'b', 'c'])]).toEqual(['clean', 0, 1, 2]);
      await mark(tracker, 'b', 5 * MIB);
      await tracker.closeClean(1);
      expect(await files.list('/state')).not.toContain('numbers');
      const again = await open(files, ['b', 'c', 'a']);
      expect([again.found, markedBytes(again, 'a'), markedBytes(again, 'b') > 0]).toEqual(['marked', 0, true]);
    }
  });

  it('NOFULL: one from the middle goes: the others stay clean; who comes then, in front, is marked and has a number of its own', async () => {
    const files = await protectedState(['a', 'b', 'c']);
    const without = await open(files, ['a', 'c']);
    expect([without.found, ...numbersOf(without, ['a', 'c'])]).toEqual(['clean', 0, 2]);
    await without.closeClean(1);
    const tracker = await open(files, ['x', 'c', 'a']);
    expect([tracker.found, ...numbersOf(tracker, ['x', 'c', 'a'])]).toEqual(['marked', 3, 2, 0]);
    expect(['x', 'c', 'a'].map((name) => markedBytes(tracker, name))).toEqual([SIZE, 0, 0]);
    copyAll(tracker, ['x', 'c', 'a']);
    await tracker.closeClean(1);
    const back = await open(files, ['b', 'x', 'a']);
    expect([back.found, ...numbersOf(back, ['b', 'x', 'a'])]).toEqual(['marked', 1, 3, 0]);
    expect(['b', 'x', 'a'].map((name) => markedBytes(back, name))).toEqual([SIZE, 0, 0]);
  });

  it('NOFULL: one goes and another comes in one start, after a crash: the marks of those that stay are as they were', async () => {
    const files = await protectedState(['a', 'b', 'c']);
    const crashed = await open(files, ['a', 'b', 'c']);
    for (const name of ['b', 'c']) await mark(crashed, name, 9 * MIB);
    await crashed.close();
    const tracker = await open(files, ['c', 'x', 'a']);
    expect(['a', 'c', 'x'].map((name) => markedBytes(tracker, name))).toEqual([0, 4 * MIB, SIZE]);
    expect([tracker.found, tracker.indexOf('x'), tracker.hotExtents]).toEqual(['marked', 3, 1]);
  });

  it('CORRUPT: a map that is missing is missed, whatever the order', async () => {
    for (const remembers of [false, true]) {
      const files = await protectedState(['a', 'b', 'c']);
      if (remembers) await (await open(files, ['a', 'c'])).closeClean(1);
      await files.remove('/state/c.map');
      const tracker = await open(files, remembers ? ['c', 'a'] : ['c', 'a', 'b']);
      expect([tracker.found, tracker.foundFaults[0]?.code]).toEqual(['untrusted', 'map-missing']);
      expect([...numbersOf(tracker, ['a', 'c']), markedBytes(tracker, 'a')]).toEqual([0, 2, SIZE]);
    }
  });

  it('CORRUPT: with its table flipped, cut, of another version or of another agent only names that are away are forgotten', async () => {
    const files = await protectedState(['a', 'b', 'c']);
    await (await open(files, ['c'])).closeClean(1);
    const { sizeBytes } = (await files.status('/state/numbers')) ?? { sizeBytes: 0 };
    for (let bit = 0; bit < 8 * sizeBytes; bit += 7) {
      const copy = files.imagineCrash({ seed: 1, fate: 'keep' });
      const file = await copy.open('/state/numbers', 'write');
      const byte = Buffer.alloc(1);
      await file.read(byte, bit >> 3);
      byte.writeUInt8(byte.readUInt8(0) ^ (1 << (bit & 7)));
      await file.write([byte], bit >> 3);
      if (bit % 3 === 0) await file.truncate(bit >> 3);
      await file.close();
      const tracker = await open(copy, ['c', 'x']);
      expect([tracker.found, ...numbersOf(tracker, ['c', 'x'])], `bit ${bit}`).toEqual(['marked', 2, 3]);
      expect([markedBytes(tracker, 'c'), await copy.list('/state')]).toEqual([
        0,
        expect.arrayContaining(['numbers.set-aside-1']),
      ]);
    }
  });

  it('SIZE: a start that is refused for the size of one has changed no number', async () => {
    const files = await protectedState(['a', 'b', 'c']);
    const before = files.changes;
    await expect(open(files, ['c', 'x', 'a'], false, SIZE / 2)).rejects.toMatchObject({ code: 'wrong-size' });
    // The lock.
    expect(files.changes - before).toBe(1);
    expect(numbersOf(await open(files, ['y', 'b', 'a']), ['y', 'b', 'a'])).toEqual([3, 1, 0]);
  });

  it('older software that goes by the order believes no mark of another number, nor does this one afterwards', async () => {
    const files = await protectedState(['a', 'b', 'c']);
    await (await open(files, ['a', 'c'])).closeClean(1);
    const downgraded = await open(files, ['a', 'c'], true);
    expect([downgraded.indexOf('c'), markedBytes(downgraded, 'c')]).toEqual([1, SIZE]);
    copyAll(downgraded, ['a', 'c']);
    await mark(downgraded, 'c', 0);
    await downgraded.close();
    const tracker = await open(files, ['c', 'a']);
    expect([tracker.found, ...numbersOf(tracker, ['a', 'c'])]).toEqual(['marked', 0, 2]);
    expect([markedBytes(tracker, 'a'), markedBytes(tracker, 'c')]).toEqual([0, SIZE]);
  });

  for (const fate of FATES) {
    it(
      `SUPERSET, NOFULL: a crash at any I/O of a start with one gone and one new in front, unsynced: ${fate}`,
      { timeout: 60_000 },
      async () => {
        let cut = true;
        for (let point = 1; cut; point += 1) {
          const files = await protectedState(['a', 'b', 'c']);
          const before = await open(files, ['a', 'b', 'c']);
          await mark(before, 'a', MIB);
          await before.close();
          files.crashAt(files.changes + point);
          const opened = await open(files, ['x', 'c', 'a']).catch(() => null);
          // From here on upstreams hold it.
          const writing = opened === null ? Promise.reject(new Error('it did not start')) : mark(opened, 'c', 9 * MIB);
          const [outcome] = await Promise.allSettled([writing]);
          const hasWritten = outcome.status === 'fulfilled';
          cut = files.crashed;
          for (const names of ['xca', 'abc', 'bxca', 'ayc'].map((list) => list.split(''))) {
            const found = await open(files.imagineCrash({ seed: point, fate }), names);
            const note = `point ${point}, ${names.join(' ')}`;
            expect(found.found, note).toBe('marked');
            for (const name of names) {
              const number = found.indexOf(name);
              if (name === 'y') expect(number, note).toBeGreaterThan(2);
              else expect(number, note).toBe('abcx'.indexOf(name));
              const wanted: Readonly<Record<string, readonly number[]>> = {
                a: [4 * MIB],
                // Once it was not tracked it is believed in nothing; before that it is as clean as it was.
                b: opened === null ? [0, SIZE] : [SIZE],
                c: hasWritten ? [4 * MIB] : [0, 4 * MIB],
              };
              expect(wanted[name] ?? [SIZE], `${note}: ${name}`).toContain(markedBytes(found, name));
            }
          }
        }
      },
    );
  }
});
