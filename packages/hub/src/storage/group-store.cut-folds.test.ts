/**
 * Folds that were cut short, and a journal that was found damaged below where they were going: base images then hold parts of
 * records that are lost (PIT, LASTGOOD).
 */
import { readBytes } from '@rephub/nbd';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { DIRECTORY, expectBase, expectView, openStore, pattern, rotRecord, startedStore } from './testing/store-kit.js';

const SIZE = 64 * 1024;
const NOW: Partial<GroupStoreOptions> = { retentionMs: 0 };

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

function world(files: SimFiles, clock: SimClock): World {
  return { clock, files, randomness: new SeededRandomness(7) };
}

describe('group store, a fold cut short and a journal damaged', () => {
  let clock: SimClock;
  let files: SimFiles;
  let on: World;
  let agent: ScriptedAgent;
  beforeEach(() => {
    clock = new SimClock();
    files = new SimFiles({ clock });
    on = world(files, clock);
    agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.write(0, 0, pattern(10_000, 1));
    agent.spanEnd();
  });

  it('a point below where a fold was going is not offered after damage, and is again when the stream has passed it', async () => {
    const store = await startedStore(on, agent, NOW);
    await store.drain();
    agent.write(0, 40_000, pattern(4000, 2));
    const good = agent.lastNumber;
    agent.write(0, 0, pattern(10_000, 3));
    const going = agent.lastNumber;
    await cutFold(store, 'disk0.raw');
    const after = world(files.crash({ seed: 1, fate: 'keep' }), clock);
    await rotRecord(after.files, agent, going);

    const again = await openStore(after, NOW);
    expect(again.state).toMatchObject({ lastNumber: good, consistentNumber: null });
    expect(again.state.corrupted).toContain(`record ${going}`);
    await expect(again.openView()).rejects.toMatchObject({ code: 'no-consistent-point' });
    expect(() => {
      again.dropLastGood('later');
    }).toThrow(expect.objectContaining({ code: 'no-consistent-point' }));
    // What is kept is folded; that the image holds more than that is not forgotten.
    await clock.advance(2000);
    expect(again.state.appliedNumber).toBe(good);
    await again.close({ drain: false });

    const third = await openStore(after, NOW);
    expect(third.state).toMatchObject({ lastNumber: good, consistentNumber: null });
    agent.sendTo(third);
    await third.settled();
    expect(third.state).toMatchObject({ corrupted: null, consistentNumber: going });
    await expectView(await third.openView(), agent, 'sent again');
    await third.close({ drain: true });
    await expectBase(after.files, agent, going, 'sent again');
  });

  it('nor is it during a resync that damage has made necessary, which needs no room beside it', async () => {
    const store = await startedStore(on, agent, NOW);
    await store.drain();
    const good = agent.lastNumber;
    agent.write(0, 0, pattern(10_000, 3));
    await cutFold(store, 'disk0.raw');
    const after = world(files.crash({ seed: 1, fate: 'keep' }), clock);
    await rotRecord(after.files, agent, good + 1);

    const again = await openStore(after, NOW);
    resyncAfter(good);
    agent.write(0, 0, pattern(SIZE / 2, 7));
    agent.sendTo(again);
    await again.settled();
    await clock.advance(2000);
    expect(again.state).toMatchObject({ spanOpen: true, consistentNumber: null, appliedNumber: agent.lastNumber });
    await again.close({ drain: false });

    const third = await openStore(after, NOW);
    expect(third.state).toMatchObject({ spanOpen: true, consistentNumber: null });
    agent.spanEnd();
    agent.sendTo(third);
    await third.settled();
    expect(third.state).toMatchObject({ corrupted: null, consistentNumber: agent.lastNumber });
    await expectView(await third.openView(), agent, 'healed');
    await third.close({ drain: true });
    await expectBase(after.files, agent, agent.lastNumber, 'healed');
  });

  it.each(['empty', 'seeded'])(
    'an image that it has made is not taken for the one of a volume that is added later: %s',
    async (how) => {
      if (how === 'seeded') {
        const image = await files.open('/image', 'create');
        await image.truncate(SIZE);
        await image.close();
        const unseeded = await openStore(on, NOW);
        await unseeded.seed('disk0', '/image');
        await unseeded.close({ drain: false });
      }
      const store = await startedStore(on, agent, NOW);
      await store.drain();
      const good = agent.lastNumber;
      agent.addVolume(1, 'disk1', SIZE);
      agent.write(1, 0, pattern(4000, 5));
      agent.write(0, 0, pattern(4000, 6));
      await cutFold(store, 'disk0.raw');
      const after = world(files.crash({ seed: 1, fate: 'keep' }), clock);
      await rotRecord(after.files, agent, good + 1);

      const again = await openStore(after, NOW);
      expect(again.state).toMatchObject({ lastNumber: good, consistentNumber: null });
      resyncAfter(good);
      agent.addVolume(1, 'disk1', SIZE);
      agent.write(0, 0, pattern(10_000, 1));
      // What upstream holds of it is zeroes, and so it seems here: nothing of it is sent.
      agent.spanEnd();
      agent.sendTo(again);
      await again.settled();
      await expectView(await again.openView(), agent, 'before it is folded');
      await again.close({ drain: true });
      const third = await openStore(after, NOW);
      await expectView(await third.openView(), agent, 'folded');
      await third.close({ drain: false });
      await expectBase(after.files, agent, agent.lastNumber, 'folded');
    },
  );

  it('the last good point has the volumes that it had, whatever is added behind the damage before a span begins', async () => {
    const store = await startedStore(on, agent, { retentionMs: 3_600_000 });
    const good = agent.lastNumber;
    agent.write(0, 40_000, pattern(4000, 2));
    agent.sendTo(store);
    await store.settled();
    const lost = agent.lastNumber;
    await store.close({ drain: false });
    await rotRecord(files, agent, lost);
    let again = await openStore(on, { retentionMs: 3_600_000 });
    expect(again.state).toMatchObject({ lastNumber: good, consistentNumber: good });
    agent.goOnAfter(lost + 1, checksumOf(good));
    agent.forget(good + 1, lost);
    agent.addVolume(1, 'disk1', SIZE);
    for (const step of ['added', 'written', 'opened again', 'in the span', 'opened once more']) {
      // No agent does so; but what is missing is missing still.
      if (step === 'written') agent.write(0, 0, pattern(100, 6));
      if (step === 'in the span') agent.spanBegin();
      if (step.startsWith('opened')) {
        await again.close({ drain: false });
        again = await openStore(on, { retentionMs: 3_600_000 });
      }
      agent.sendTo(again);
      await again.settled();
      const view = await again.openView();
      expect([step, again.state.corrupted === null]).toEqual([step, false]);
      expect([step, view.number, view.volumes.map(({ name }) => name)]).toEqual([step, good, ['disk0']]);
      await expectView(view, agent, step);
      await view.close();
    }
    agent.spanEnd();
    agent.sendTo(again);
    await again.settled();
    expect(again.state.corrupted).toBeNull();
    await expectView(await again.openView(), agent, 'healed');
    await again.close({ drain: false });
  });

  it('what it has left in the images is stable before anything is compared with it', async () => {
    agent.addVolume(1, 'disk1', SIZE);
    const store = await startedStore(on, agent, NOW);
    await store.drain();
    const good = agent.lastNumber;
    agent.write(0, 0, pattern(4096, 5));
    agent.write(1, 0, pattern(4096, 77));
    await cutFold(store, 'disk0.raw');
    await rotRecord(files, agent, good + 1);

    // Only the process begins again: what was never synced is read all the same.
    const again = await openStore(on, NOW);
    expect(again.state).toMatchObject({ lastNumber: good, consistentNumber: null });
    resyncAfter(good);
    // Compared, disk1 is the same on both sides: nothing of it is sent.
    agent.write(0, 0, pattern(4096, 5));
    agent.spanEnd();
    agent.sendTo(again);
    await again.settled();
    await clock.advance(5000);
    expect(again.state.appliedNumber).toBe(agent.lastNumber);
    const third = await openStore(world(files.crash({ seed: 1, fate: 'lose' }), clock), NOW);
    const view = await third.openView();
    expect((await readBytes(view.device('disk1'), 0, 4096)).equals(pattern(4096, 77))).toBe(true);
    await third.close({ drain: false });
  });

  it('where it was going is known from either slot', async () => {
    const store = await startedStore(on, agent, NOW);
    await store.drain();
    const good = agent.lastNumber;
    agent.write(0, 0, pattern(10_000, 3));
    await cutFold(store, 'disk0.raw');
    for (const slot of [0, 1]) {
      const after = world(files.crash({ seed: 1, fate: 'keep' }), clock);
      await rotRecord(after.files, agent, good + 1);
      after.files.rot(`${DIRECTORY}/base/applied`, slot * 64 * 1024 + 40, 2);
      const again = await openStore(after, NOW);
      expect(again.state).toMatchObject({ lastNumber: good, consistentNumber: null });
      await again.close({ drain: false });
    }
  });

  /** All that the agent has is put into the images, which cannot be synced: they hold what `applied` does not speak of. */
  async function cutFold(store: GroupStore, image: string): Promise<void> {
    const applied = store.state.appliedNumber;
    agent.sendTo(store);
    await store.settled();
    files.inject({ operation: 'sync', path: image, fault: 'io-error' });
    await clock.advance(2000);
    expect(store.state).toMatchObject({ appliedNumber: applied, applyFailed: expect.any(String) as unknown });
    await store.close({ drain: false });
  }

  /** The records above this one are lost; the agent begins a span, beyond them. */
  function resyncAfter(good: number): void {
    const lost = agent.lastNumber;
    agent.spanAfter(lost + 1, checksumOf(good));
    agent.forget(good + 1, lost);
  }

  function checksumOf(number: number): number {
    return agent.records.find((record) => record.number === number)!.checksum;
  }
});
