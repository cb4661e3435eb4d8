/** What is noted of a volume belongs to its name, whatever becomes of its number between two starts (FLUSH, CLEAR). */
import { storeHubNumbers, Tracker } from '@rephub/bitmap';
import { silentLogger } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { type DoubtedVolume, DoubtNote } from './doubt-note.js';
import { Doubts } from './doubts.js';
import { FlushDebt } from './flush-debt.js';

const SIZE = 1024 * 1024;

interface Doubted extends DoubtedVolume {
  readonly debt: FlushDebt;
}

interface Started {
  readonly tracker: Tracker;
  readonly note: DoubtNote;
  /** In the order of the names. */
  readonly volumes: readonly Doubted[];
}

/** A process with these volumes, which has recalled what the ones before have noted. */
async function start(files: SimFiles, names: readonly string[]): Promise<Started> {
  const tracker = await Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(7) },
    {
      ...{ directory: '/state', group: 'vm1', volumes: names.map((name) => ({ name, sizeBytes: SIZE })) },
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    },
  );
  const volumes = names.map((name): Doubted => {
    const doubts = new Doubts();
    return {
      ...{ index: tracker.indexOf(name), name, doubts },
      get mayHaveDropped() {
        return doubts.bytes > 0;
      },
      debt: new FlushDebt(true, { mayHaveDropped: false, mayHaveLost: false }, () => undefined),
    };
  });
  const note = new DoubtNote(tracker, silentLogger, () => volumes);
  note.recall();
  return { tracker, note, volumes };
}

const owedOf = ({ volumes }: Started): readonly string[] =>
  volumes.filter(({ debt }) => debt.isOwed).map(({ name }) => name);
const doubtedOf = ({ volumes }: Started): readonly string[] =>
  volumes.filter(({ doubts }) => doubts.bytes > 0).map(({ name }) => name);

/** A process whose volumes `a` and `b` have the numbers 0 and 1, and which ends with this noted. */
async function noted(files: SimFiles, owes: string, dropped: string): Promise<Tracker> {
  const { note, tracker, volumes } = await start(files, ['a', 'b']);
  for (const { name, debt, doubts } of volumes) {
    if (name === owes) debt.owe();
    if (name === dropped) doubts.add(0, 4096);
  }
  note.look();
  await tracker.saveIdentity({});
  await tracker.close();
  return tracker;
}

it('volumes that take the numbers of the hub take what is noted of them along', async () => {
  const files = new SimFiles();
  const { identity } = await noted(files, 'a', 'b');
  const [used, hub] = [new Map(Object.entries({ a: 0, b: 1 })), new Map(Object.entries({ a: 1, b: 0 }))];
  expect(await storeHubNumbers(files, '/state', identity.agentId, used, hub)).toBe(true);
  const next = await start(files, ['a', 'b']);
  expect(next.volumes.map(({ index }) => index)).toEqual([1, 0]);
  expect([owedOf(next), doubtedOf(next)]).toEqual([['a'], ['b']]);
});

it('a volume that gets the number of one that is away does not get what is noted of that one', async () => {
  const files = new SimFiles();
  const { identity } = await noted(files, 'b', 'b');
  const used = new Map([['a', 0]]);
  const hub = new Map(Object.entries({ a: 0, c: 1 }));
  expect(await storeHubNumbers(files, '/state', identity.agentId, used, hub)).toBe(true);
  const other = await start(files, ['a', 'c']);
  expect(other.volumes.map(({ index }) => index)).toEqual([0, 1]);
  expect([owedOf(other), doubtedOf(other)]).toEqual([[], []]);
  other.note.look();
  await other.tracker.close();
  const back = await start(files, ['c', 'b', 'a']);
  expect([owedOf(back), doubtedOf(back)]).toEqual([['b'], ['b']]);
});

/** All of them owe an error, and have something in doubt. */
async function allNoted(files: SimFiles, names: readonly string[], notes: Readonly<Record<string, string>>) {
  const { note, tracker, volumes } = await start(files, names);
  await tracker.saveIdentity({ notes: { ...tracker.identity.notes, ...notes } });
  for (const { debt, doubts } of volumes) {
    debt.owe();
    doubts.add(0, 4096);
  }
  note.look();
  await tracker.saveIdentity({});
  return { note, tracker, volumes };
}

/** One note may be on its way: the next one follows it. */
async function look({ note, tracker }: Pick<Started, 'note' | 'tracker'>): Promise<void> {
  note.look();
  for (let save = 0; save < 3; save++) await tracker.saveIdentity({});
}

const MANY = Array.from({ length: 255 }, (_, at) => `disk${at}`);

it('more volumes than there is room for are noted all the same, and no longer than they have to be', async () => {
  const files = new SimFiles();
  const { tracker } = await allNoted(files, MANY, { sessions: 'x'.repeat(300), found: 'x'.repeat(1500) });
  expect(tracker.identity.notes['found']).toHaveLength(1500);
  await tracker.close();
  const next = await start(files, MANY);
  expect([owedOf(next), doubtedOf(next)]).toEqual([MANY, MANY]);
  // All but one are settled: that one alone is noted, and what the others are is not.
  for (const { name, debt } of next.volumes) if (name !== 'disk7') debt.settle();
  await look(next);
  await next.tracker.close();
  const last = await start(files, MANY);
  expect(owedOf(last)).toEqual(['disk7']);
  expect(doubtedOf(last)).toEqual(MANY);
  await last.tracker.close();
});

it('what explains something gives way to them', async () => {
  const files = new SimFiles();
  const some = MANY.slice(0, 90);
  const { tracker } = await allNoted(files, some, { divergence: 'x'.repeat(700), 'files-open': 'x'.repeat(1400) });
  expect(tracker.identity.notes['files-open']).toBeUndefined();
  await tracker.close();
  // The names are noted one by one: a volume that is new has nothing to do with it.
  const next = await start(files, [...some, 'new']);
  expect([owedOf(next), doubtedOf(next)]).toEqual([some, some]);
  await next.tracker.close();
});

it('volumes that are away when all were noted are not forgotten', async () => {
  const files = new SimFiles();
  const most = MANY.slice(0, 150);
  const { tracker } = await allNoted(files, most, { found: 'x'.repeat(1500) });
  await tracker.close();
  const few = most.slice(0, 3);
  const other = await start(files, few);
  expect(owedOf(other)).toEqual(few);
  for (const { debt } of other.volumes) debt.settle();
  // There is room again: those that are away are noted by their names.
  await other.tracker.saveIdentity({ notes: { ...other.tracker.identity.notes, found: '' } });
  await look(other);
  await other.tracker.close();
  const back = await start(files, most);
  expect(owedOf(back)).toEqual(most.filter((name) => !few.includes(name)));
  await back.tracker.close();
});
