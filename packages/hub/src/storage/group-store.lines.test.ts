/** Lines of history that take turns: a group that goes to another agent and comes back to the first one (LINEAGE, NODISCARD). */
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { DIRECTORY, expectView, openStore, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 16 * 1024;
const [FIRST, SECOND] = ['11111111-2222-4333-8444-555555555555', '99999999-2222-4333-8444-555555555555'];

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

function world(files: SimFiles, clock: SimClock): World {
  return { clock, files, randomness: new SeededRandomness(7) };
}

/** What an agent brings that begins anew. */
function agentOf(line: string, seed: number): ScriptedAgent {
  const agent = new ScriptedAgent(line);
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.write(0, 0, pattern(9000, seed));
  agent.spanEnd();
  return agent;
}

async function begin(store: GroupStore, agent: ScriptedAgent): Promise<void> {
  await store.beginLine(agent.line);
  agent.sendTo(store);
  await store.settled();
}

describe('lines that take turns', () => {
  let on: World;
  let decisions: () => Promise<number>;
  beforeEach(() => {
    const clock = new SimClock();
    on = world(new SimFiles({ clock }), clock);
    decisions = async () => (await on.files.status(`${DIRECTORY}/decisions.log`))?.sizeBytes ?? 0;
  });

  it('a line that was kept aside begins anew when its agent comes back, and what it had been is kept', async () => {
    const store = await startedStore(on, agentOf(FIRST, 1));
    await store.drain();
    await begin(store, agentOf(SECOND, 2));
    await store.drain();
    const back = agentOf(FIRST, 3);
    await begin(store, back);
    await expectView(await store.openView(), back, 'the first one is back');
    await store.drain();
    const again = agentOf(SECOND, 4);
    await begin(store, again);
    await expectView(await store.openView(), again, 'and the second one');
    const names = (await on.files.list(`${DIRECTORY}/lines`)).sort();
    expect(names).toEqual([FIRST, `${FIRST}.earlier-1`, SECOND, `${SECOND}.earlier-1`]);
    for (const name of names.filter((kept) => kept !== SECOND)) {
      expect(await on.files.list(`${DIRECTORY}/lines/${name}/base`)).toEqual(
        expect.arrayContaining(['applied', 'disk0.raw']),
      );
    }
    await store.close({ drain: false });
    const reopened = await openStore(on);
    expect(reopened.state).toMatchObject({ corrupted: null, line: again.line });
    await expectView(await reopened.openView(), again, 'reopened');
    await reopened.close({ drain: false });
  });

  it.each(['lose', 'keep', 'mixed'] as const)(
    'power is lost at any change of the disk while it begins anew: %s',
    async (fate) => {
      const store = await startedStore(on, agentOf(FIRST, 1));
      await store.drain();
      const second = agentOf(SECOND, 2);
      await begin(store, second);
      await store.drain();
      await store.close({ drain: false });
      const back = agentOf(FIRST, 3);
      let crashes = 0;
      for (let isDone = false; !isDone;) {
        const clock = new SimClock();
        const cut = world(on.files.imagineCrash({ seed: 1, fate: 'keep' }, { clock }), clock);
        cut.files.crashAt(cut.files.changes + crashes + 1);
        isDone = await openStore(cut)
          .then(async (opened) => {
            await begin(opened, back);
            return opened.state.durableNumber === back.lastNumber;
          })
          .catch(() => false);
        const after = world(cut.files.crash({ seed: crashes, fate }), clock);
        const found = await openStore(after);
        const note = `cut at change ${crashes + 1}`;
        expect(found.state.corrupted, note).toBeNull();
        // The one or the other, and never a mixture; then it goes on as the agent wants it.
        if (found.state.consistentNumber !== null)
          await expectView(await found.openView(), found.state.line?.id === FIRST ? back : second, note);
        if (found.state.line?.id !== FIRST) await begin(found, back);
        else {
          await found.beginLine(back.line);
          back.sendTo(found);
          await found.settled();
        }
        await expectView(await found.openView(), back, `${note}, gone on`);
        const kept = await after.files.list(`${DIRECTORY}/lines`);
        expect(kept.sort(), note).toEqual([FIRST, `${FIRST}.earlier-1`, SECOND]);
        await found.close({ drain: false });
        crashes += 1;
      }
      expect(crashes).toBeGreaterThan(8);
    },
  );

  it('one that cannot be opened is decided once, however often it is tried', async () => {
    const store = await startedStore(on, agentOf(FIRST, 1));
    await store.drain();
    const second = agentOf(SECOND, 2);
    const fails = on.files.inject({ operation: 'open', path: /99999999/, times: Infinity, fault: 'too-many-files' });
    await expect(store.beginLine(second.line)).rejects.toMatchObject({ code: 'too-many-files' });
    const decided = await decisions();
    await expect(store.beginLine(second.line)).rejects.toMatchObject({ code: 'too-many-files' });
    expect(await decisions()).toBe(decided);
    fails.remove();
    await begin(store, second);
    await expectView(await store.openView(), second, 'opened at last');
    await store.close({ drain: false });
  });

  it('a line whose successor cannot be decided stays open, with all that rests on it (LASTGOOD)', async () => {
    const first = agentOf(FIRST, 1);
    const store = await startedStore(on, first);
    const view = await store.openView();
    const begun = store.toHubGroup()?.written?.begunUnixMs;
    await on.clock.advance(5000);
    on.files.inject({ operation: 'write', path: 'decisions.log', fault: 'disk-full' });
    await expect(store.beginLine(agentOf(SECOND, 2).line)).rejects.toMatchObject({ code: 'disk-full' });
    expect(store.toHubGroup()).toMatchObject({ line: first.line, written: { begunUnixMs: begun } });
    await expectView(view, first, 'the view that was open');
    await expectView(await store.openView(), first, 'another one');
    const second = agentOf(SECOND, 2);
    await begin(store, second);
    await expectView(await store.openView(), second, 'there is room again');
    await store.close({ drain: false });
  });

  it('a test that cannot be removed keeps no other line from beginning, and no store from closing', async () => {
    const store = await startedStore(on, agentOf(FIRST, 1));
    for (const name of ['one', 'two']) await store.openBranch(name, { scratchBytes: 1 << 20 });
    on.files.inject({ operation: 'write', path: 'decisions.log', fault: 'io-error', skip: 1 });
    const second = agentOf(SECOND, 2);
    await begin(store, second);
    expect(store.branch('two')).toBeNull();
    await expectView(await store.openView(), second, 'the other line');
    await store.openBranch('three', { scratchBytes: 1 << 20 });
    on.files.inject({ operation: 'write', path: 'decisions.log', fault: 'io-error' });
    await store.drain();
    await store.close({ drain: true });
    const reopened = await openStore(on);
    expect(reopened.state).toMatchObject({ line: second.line, branches: [], corrupted: null });
    await expectView(await reopened.openView(), second, 'reopened');
    await reopened.close({ drain: false });
  });

  it('a line is put aside for a reason of any length, and that can be read again', async () => {
    const agent = agentOf(FIRST, 1);
    const store = await startedStore(on, agent, { retentionMs: 3_600_000 });
    await store.drain();
    // The reason names each size that the image may have.
    for (let more = 1; more <= 700; more += 1) agent.resize(0, SIZE + more * 512);
    agent.sendTo(store);
    await store.settled();
    await store.close({ drain: false });
    const image = await on.files.open(`${DIRECTORY}/base/disk0.raw`, 'write');
    await image.truncate(512);
    await image.close();
    const found = await openStore(on);
    expect(found.state).toMatchObject({ line: null, corrupted: expect.stringContaining('has 512 bytes') as string });
    await found.close({ drain: false });
    const again = await openStore(on);
    expect(again.state.corrupted).toMatch(/has 512 bytes/);
    await again.close({ drain: false });
  });
});
