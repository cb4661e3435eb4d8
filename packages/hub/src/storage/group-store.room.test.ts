// LASTGOOD and FULL on a disk with little room: what may begin, what ends first, and what an operator may give up.
import { writeBytes } from '@rephub/nbd';
import { type CrashFate, SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectBase, expectView, openStore, OWNER, pattern, startedStore } from './testing/store-kit.js';

const KIB = 1024;
const SIZE = 512 * KIB;
const RESERVE = 64 * KIB;
const OPTIONS: Partial<GroupStoreOptions> = { retentionMs: 3_600_000, reserveBytes: RESERVE, segmentBytes: 64 * KIB };

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

function world(files: SimFiles, clock: SimClock): World {
  return { clock, files, randomness: new SeededRandomness(7) };
}

function synced(): ScriptedAgent {
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin(0, SIZE);
  agent.write(0, 0, pattern(100 * KIB, 1));
  agent.spanEnd();
  return agent;
}

async function started(on: World, agent: ScriptedAgent): Promise<GroupStore> {
  const store = await startedStore(on, agent, OPTIONS);
  await on.clock.advance(3000);
  return store;
}

/** The disk has so much room, from now on. */
async function leave(files: SimFiles, store: GroupStore, freeBytes: number): Promise<void> {
  const { freeBytes: now, totalBytes } = await files.room('/');
  files.setCapacity(totalBytes - now + freeBytes);
  await store.lookAtRoom();
}

describe('group store with little room', () => {
  let clock: SimClock;
  let files: SimFiles;
  let on: World;
  let agent: ScriptedAgent;
  let store: GroupStore;
  beforeEach(async () => {
    clock = new SimClock();
    files = new SimFiles({ clock, capacityBytes: 64 * KIB * KIB });
    on = world(files, clock);
    agent = synced();
    store = await started(on, agent);
  });

  /** The agent's span of up to so many bytes is refused; nothing of it is taken. */
  async function refuse(expectedBytes: number): Promise<void> {
    const before = agent.lastNumber;
    agent.spanBegin(0, expectedBytes);
    expect(() => {
      agent.sendTo(store);
    }).toThrow(expect.objectContaining({ code: 'span-too-big', retryable: true }));
    await clock.advance(100);
    expect(store.state.lastNumber).toBe(before);
  }

  it('LASTGOOD: a span that may not fit is refused before anything of it is taken, and taken when there is room', async () => {
    await leave(files, store, RESERVE + 200 * KIB);
    const before = agent.lastNumber;
    await refuse(400 * KIB);
    expect(store.state.spanShort?.neededBytes).toBeGreaterThanOrEqual(400 * KIB);
    expect(store.state.spanShort?.shortBytes).toBeGreaterThanOrEqual(200 * KIB);
    expect(store.state).toMatchObject({ spanOpen: false, consistentNumber: before, stalled: null });
    await expectView(await store.openView(), agent, 'refused');

    await clock.advance(61_000);
    expect(store.state.spanShort, 'an agent that is away wants nothing').toBeUndefined();

    await leave(files, store, 2 * KIB * KIB);
    agent.write(0, 0, pattern(300 * KIB, 2));
    agent.sendTo(store);
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    expect(store.state.consistentNumber).toBe(agent.lastNumber);
    await store.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, 'taken later');
  });

  it('keeps a whole number of bytes for protection when nobody says how many', async () => {
    const platform = world(new SimFiles({ clock, capacityBytes: 1_000_000_007 }), clock);
    const other = await startedStore(platform, synced());
    await other.lookAtRoom();
    expect(other.state.room?.reserveBytes).toBe(50_000_001);
    await other.close({ drain: false });
  });

  it('a span that fits is taken, and one of which nobody knows how much it brings', async () => {
    await leave(files, store, RESERVE + 400 * KIB);
    agent.spanBegin(0, 300 * KIB);
    agent.spanEnd();
    agent.spanBegin();
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    expect(store.state.consistentNumber).toBe(agent.lastNumber);
    await store.close({ drain: false });
  });

  it('a first sync is never refused: there is no last good point to keep', async () => {
    const small = new SimFiles({ clock, capacityBytes: 300 * KIB });
    const first = await openStore(world(small, clock), OPTIONS);
    await first.setOwner(OWNER);
    await first.beginLine(agent.line);
    agent.sendTo(first, 3);
    await first.settled();
    expect(first.state.spanOpen).toBe(true);
    await first.close({ drain: false });
  });

  it('history gives way to a span that lacks room; a reader at a point only when the agent has come again', async () => {
    for (let round = 0; round < 20; round += 1) agent.write(0, 0, pattern(60 * KIB, round));
    agent.sendTo(store);
    await store.settled();
    const history = store.state.journalBytes;
    expect(history).toBeGreaterThan(1100 * KIB);
    await leave(files, store, RESERVE + 200 * KIB);
    const view = await store.openView();
    const held = agent.lastNumber;
    agent.write(0, 0, pattern(KIB, 90));
    agent.sendTo(store);
    await store.settled();
    await refuse(1000 * KIB);
    await clock.advance(5000);
    await expectView(view, agent, 'while it was refused once');
    expect(store.state.appliedNumber).toBe(held);
    const view2 = await store.openView();
    const again = (): void => {
      agent.sendTo(store);
    };
    await store.lookAtRoom();
    if (store.state.spanShort !== undefined) expect(again).toThrow(expect.objectContaining({ code: 'span-too-big' }));
    await clock.advance(5000);
    await store.lookAtRoom();
    expect(store.state.spanShort).toBeUndefined();
    again();
    await store.settled();
    expect(store.state.spanOpen).toBe(true);
    await view.close();
    await view2.close();
    await store.close({ drain: false });
  });

  it('a reader at the last good point is left alone by a span that exceeds the cap of the journal', async () => {
    await store.close({ drain: true });
    store = await openStore(on, { ...OPTIONS, journalMaxBytes: 128 * KIB });
    const view = await store.openView();
    const gone: string[] = [];
    view.onExpired((why) => gone.push(why));
    agent.spanBegin(0, 400 * KIB);
    for (let at = 0; at < SIZE; at += 64 * KIB) agent.write(0, at, pattern(64 * KIB, 7 + at));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(5000);
    expect(store.state.journalBytes).toBeGreaterThan(128 * KIB);
    expect(gone).toEqual([]);
    await expectView(view, agent, 'above the cap');
    await view.close();
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    await clock.advance(5000);
    expect(store.state.journalBytes).toBeLessThan(300 * KIB);
    await store.close({ drain: false });
  });

  it('FULL: below the reserve tests end and none begins, protection goes on; with room again tests begin', async () => {
    const branch = await store.openBranch('try', { scratchBytes: 10_000_000 });
    const over: string[] = [];
    branch.onOver((why) => over.push(why));
    await writeBytes(branch.device('disk0'), 0, pattern(4096, 5));
    await leave(files, store, RESERVE - 1);
    expect(over).toEqual([expect.stringContaining('room runs low: 65535 bytes are free, 65536 are kept')]);
    await expect(writeBytes(branch.device('disk0'), 0, pattern(4096, 6))).rejects.toThrow(/error 28/);
    await expect(store.openBranch('more', { scratchBytes: 1 })).rejects.toThrow(
      expect.objectContaining({ code: 'disk-full', retryable: true }),
    );
    agent.write(0, 0, pattern(20 * KIB, 3));
    agent.sendTo(store);
    await store.settled();
    expect(store.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber });
    await branch.drop();
    await leave(files, store, 4 * KIB * KIB);
    const next = await store.openBranch('more', { scratchBytes: 1000 });
    await next.drop();
    await store.close({ drain: false });
  });

  it('FULL: a test that writes is what notices that room runs low, and ends', async () => {
    await leave(files, store, RESERVE + 300 * KIB);
    const branch = await store.openBranch('try', { scratchBytes: 10_000_000 });
    const over: string[] = [];
    branch.onOver((why) => over.push(why));
    for (let round = 0; round < 60 && over.length === 0; round += 1) {
      await writeBytes(branch.device('disk0'), 0, pattern(8 * KIB, round)).catch(() => undefined);
      await clock.advance(300);
    }
    expect(over).toEqual([expect.stringContaining('room runs low')]);
    expect(store.state).toMatchObject({ stalled: null, consistentNumber: agent.lastNumber });
    await branch.drop();
    await store.close({ drain: false });
  });

  it('the last good point is given up by an operator’s word only where a resync lacks room', async () => {
    expect(() => {
      store.dropLastGood('now');
    }).toThrow(expect.objectContaining({ code: 'nothing-short' }));
    // Allowed for the next one, should it lack room; this one does not.
    store.dropLastGood('later');
    const kept = await store.openView();
    agent.spanBegin(0, 100 * KIB);
    agent.write(0, 0, pattern(50 * KIB, 4));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(3000);
    await expectView(kept, agent, 'allowed and not needed');
    await kept.close();
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    await leave(files, store, RESERVE + 100 * KIB);
    await refuse(400 * KIB);
    await store.close({ drain: false });
  });

  it('given up, the span is applied while it comes, with a fraction of the room, and its end is a good point', async () => {
    await leave(files, store, RESERVE + 300 * KIB);
    const view = await store.openView();
    const gone: string[] = [];
    view.onExpired((why) => gone.push(why));
    await refuse(400 * KIB);
    store.dropLastGood('now');
    agent.sendTo(store);
    await store.settled();
    await clock.advance(10);
    expect(store.state).toMatchObject({ consistentNumber: null, lastGoodDropped: true, spanOpen: true });
    expect(gone).toEqual(['the last good point was given up for a resync']);
    await view.close();
    await expect(store.openView()).rejects.toThrow(expect.objectContaining({ code: 'no-consistent-point' }));
    for (let round = 0; round < 4; round += 1) {
      for (let at = 0; at < 200 * KIB; at += 40 * KIB) {
        agent.write(0, at, pattern(40 * KIB, round + at));
        agent.sendTo(store);
        await store.settled();
        await clock.advance(1500);
      }
    }
    expect(store.state.stalled).toBeNull();
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    expect(store.state).toMatchObject({ consistentNumber: agent.lastNumber, stalled: null });
    expect(store.state.lastGoodDropped).toBeUndefined();
    await expectView(await store.openView(), agent, 'after the span');
    await store.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, 'after the span');
  });

  it('a span whose end waits for room like the rest of it is one that lacks room: the operator may give the last good point up', async () => {
    await store.drain();
    await leave(files, store, 300 * KIB);
    const before = agent.lastNumber;
    agent.spanBegin();
    for (let round = 0; round < 20; round += 1) agent.write(0, (round % 5) * 20 * KIB, pattern(20 * KIB, 50 + round));
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    await clock.advance(5000);
    expect(store.state).toMatchObject({ stalled: 'disk-full', consistentNumber: before, lastNumber: agent.lastNumber });
    store.dropLastGood('now');
    await clock.advance(10_000);
    await store.settled();
    expect(store.state).toMatchObject({ stalled: null, consistentNumber: agent.lastNumber });
    await expectView(await store.openView(), agent, 'after the span');
    // The word was for that one.
    await leave(files, store, RESERVE + 100 * KIB);
    await refuse(400 * KIB);
    await store.close({ drain: false });
  });

  it('what could not be given up before the span had ended is not given up for the next one (LASTGOOD)', async () => {
    await leave(files, store, RESERVE + 300 * KIB);
    await refuse(400 * KIB);
    store.dropLastGood('now');
    const full = files.inject({ operation: 'write', path: 'base/applied', fault: 'disk-full' });
    agent.sendTo(store);
    await store.settled();
    await clock.advance(10);
    expect(full.hits).toBe(1);
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    const good = agent.lastNumber;
    agent.spanBegin();
    agent.write(0, 0, pattern(4096, 9));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(10_000);
    expect(store.state).toMatchObject({ consistentNumber: good, spanOpen: true });
    expect(store.state.lastGoodDropped).toBeUndefined();
    await expectView(await store.openView(), agent, 'the end of the span that needed it');
    await store.close({ drain: false });
  });

  it('a span that fills the disk halfway waits with the last good point, until the operator gives that up', async () => {
    await store.drain();
    await leave(files, store, 300 * KIB);
    const before = agent.lastNumber;
    agent.spanBegin();
    for (let round = 0; round < 20; round += 1) agent.write(0, (round % 5) * 20 * KIB, pattern(20 * KIB, 50 + round));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(5000);
    expect(store.state).toMatchObject({ stalled: 'disk-full', consistentNumber: before });
    store.dropLastGood('now');
    await clock.advance(10_000);
    await store.settled();
    expect(store.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber, lastGoodDropped: true });
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    await expectView(await store.openView(), agent, 'after the span');
    await store.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, 'after the span');
  });
});

describe('group store, crashed while the last good point is given up', () => {
  /** Protects, refuses a span, gives the last good point up for it, and takes it in pieces that are folded at once. */
  async function run(on: World, agent: ScriptedAgent, spanAt: number): Promise<void> {
    const store = await openStore(on, { ...OPTIONS, segmentBytes: 8192 });
    await store.setOwner(OWNER);
    await store.beginLine(agent.line);
    agent.sendTo(store, spanAt - 1);
    await store.settled();
    on.files.setCapacity(2_000_000);
    await store.lookAtRoom();
    store.dropLastGood('later');
    for (let number = spanAt; number <= agent.lastNumber; number += 1) {
      agent.sendTo(store, number);
      await store.settled();
      await on.clock.advance(1100);
      if (store.state.stalled !== null) throw new Error('the disk has crashed');
    }
    await store.close({ drain: true });
  }

  async function crashAt(at: number, fate: CrashFate): Promise<boolean> {
    const agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', 64 * KIB);
    agent.spanBegin();
    agent.write(0, 0, pattern(40 * KIB, 1));
    agent.spanEnd();
    agent.write(0, 1000, pattern(5000, 2));
    const spanAt = agent.lastNumber + 1;
    agent.spanBegin(0, 1e12);
    for (let part = 0; part < 6; part += 1) agent.write(0, part * 9000, pattern(9000, 10 + part));
    agent.spanEnd();
    const clock = new SimClock();
    const files = new SimFiles({ clock, capacityBytes: 2_000_000 });
    files.crashAt(at);
    try {
      await run(world(files, clock), agent, spanAt);
      return false;
    } catch (error) {
      if (!files.crashed) throw error;
    }
    const after = world(files.crash({ seed: at, fate }), clock);
    const store = await openStore(after, { ...OPTIONS, segmentBytes: 8192 });
    const { consistentNumber, lastNumber, corrupted } = store.state;
    expect(corrupted, `crash at ${at}`).toBeNull();
    // Whatever is offered as a point is one; the point before the span may have gone, the span's end may not.
    if (consistentNumber !== null) await expectView(await store.openView(), agent, `crash at ${at}`);
    if (lastNumber === agent.lastNumber) expect(consistentNumber, `crash at ${at}`).toBe(lastNumber);
    if (store.state.line !== null && lastNumber >= spanAt) {
      after.files.setCapacity(64_000_000);
      await store.lookAtRoom();
      agent.sendTo(store);
      await store.settled();
      await expectView(await store.openView(), agent, `crash at ${at}, gone on`);
    }
    await store.close({ drain: false });
    return true;
  }

  it.each([
    ['mixed', 3],
    ['keep', 7],
    ['lose', 8],
  ] as const)('no mixture is ever offered as a point: unsynced changes: %s', async (fate, stride) => {
    let crashes = 0;
    for (let at = 1; await crashAt(at, fate); at += stride) crashes += 1;
    expect(crashes).toBeGreaterThan(10);
  });
});
