/** A journal that rots while the hub runs, or that the disk never wrote: it does not become the replica (CORRUPT, PIT). */
import { type Fault } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectBase, expectView, openStore, pattern, placeOf, rotRecord, startedStore } from './testing/store-kit.js';

const SIZE = 64 * 1024;
const AN_HOUR: Partial<GroupStoreOptions> = { retentionMs: 3_600_000 };

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

describe('a journal that is not what came', () => {
  let on: World;
  let agent: ScriptedAgent;
  let store: GroupStore;
  let faults: Fault[];
  /** All up to here is in the base image, and nothing above. */
  let folded: number;

  beforeEach(async () => {
    const clock = new SimClock();
    on = { clock, files: new SimFiles({ clock }), randomness: new SeededRandomness(7) };
    agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.write(0, 0, pattern(10_000, 1));
    agent.spanEnd();
    folded = agent.lastNumber;
    store = await startedStore(on, agent, AN_HOUR);
    await store.drain();
    expect(store.state.appliedNumber).toBe(folded);
    faults = [];
    store.listener = {
      progressed: () => undefined,
      stalled: () => undefined,
      congested: () => undefined,
      failed: (fault) => faults.push(fault),
    };
  });

  /** And a little later something more, with which the hub notes how far all was durable. */
  async function send(): Promise<void> {
    agent.sendTo(store);
    await store.settled();
    await on.clock.advance(10_000);
    agent.flush(0);
    agent.sendTo(store);
    await store.settled();
    await on.clock.settle();
  }

  async function expectNothingFolded(record: number): Promise<void> {
    await expect(store.drain()).rejects.toMatchObject({ code: 'apply-failed' });
    expect(faults.map(({ code, message }) => `${code} ${message}`)).toEqual([
      expect.stringMatching(/^apply-failed .*a record at position \d+ \(.*\.seg\) is damaged/),
    ]);
    expect(store.state).toMatchObject({ appliedNumber: folded, lastNumber: agent.lastNumber });
    expect(store.state.applyFailed).toBeDefined();
    // Which point is good nobody knows before the next start.
    await expect(store.openView()).rejects.toMatchObject({ code: 'journal-damaged' });
    await expect(store.openBranch('try', { scratchBytes: SIZE })).rejects.toMatchObject({ code: 'journal-damaged' });
    await expectBase(on.files, agent, folded, 'after the fold that was refused');
    // The next start says what is lost, keeps what lies before it, and all is compared.
    const after = { ...on, files: on.files.crash({ seed: 1, fate: 'keep' }) };
    const again = await openStore(after, AN_HOUR);
    expect(again.state.lastNumber).toBe(record - 1);
    expect(again.state.corrupted).toContain(`record ${record}`);
    await expectView(await again.openView(), agent, 'the last good point');
  }

  it('rotten payload is not folded, nor what came after it', async () => {
    agent.write(0, 20_000, pattern(4000, 2));
    agent.write(0, 30_000, pattern(4000, 3));
    const record = agent.lastNumber;
    agent.write(0, 40_000, pattern(4000, 4));
    await send();
    await rotRecord(on.files, agent, record);
    await expectNothingFolded(record);
  });

  it('payload that was overwritten later counts too: what lies behind it cannot be told', async () => {
    agent.write(0, 20_000, pattern(4000, 2));
    const record = agent.lastNumber;
    agent.write(0, 20_000, pattern(4000, 3));
    await send();
    await rotRecord(on.files, agent, record);
    await expectNothingFolded(record);
  });

  it('a write that the disk never did shows an older record, whole in itself: not folded', async () => {
    agent.write(0, 20_000, pattern(4000, 2));
    const older = agent.lastNumber;
    agent.write(0, 30_000, pattern(4000, 3));
    const record = agent.lastNumber;
    agent.write(0, 40_000, pattern(4000, 4));
    await send();
    const [from, to] = [await placeOf(on.files, agent, older), await placeOf(on.files, agent, record)];
    const file = await on.files.open(to.path, 'write');
    await file.write([from.frame], to.offset);
    await file.sync();
    await file.close();
    await expectNothingFolded(record);
  });

  it('what is whole is folded', async () => {
    agent.write(0, 20_000, pattern(4000, 2));
    for (let part = 0; part < 12; part += 1) agent.write(0, part * 5000, pattern(4500, 10 + part));
    await send();
    const last = agent.lastNumber;
    await store.drain();
    expect(faults).toEqual([]);
    expect(store.state.appliedNumber).toBe(last);
    await expectBase(on.files, agent, store.state.appliedNumber, 'folded');
  });
});
