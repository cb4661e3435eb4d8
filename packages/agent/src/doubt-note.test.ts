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
