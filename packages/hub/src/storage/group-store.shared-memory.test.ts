// BOUND: what the groups of a hub hold in memory is bounded for all of them together, and shared fairly.
import { SeededRandomness, SimClock, SimFiles, type SimOperation } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { SharedMemory } from './shared-memory.js';
import type { GroupStore, GroupStoreOptions, StoreMemory } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectView, openStore, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 128 * 1024;
const HOUR_MS = 3_600_000;

interface Member {
  readonly agent: ScriptedAgent;
  readonly store: GroupStore;
}

/** Distinct files for each group, as under DATA/groups. */
function placeOf(index: number): Pick<GroupStoreOptions, 'directory' | 'group'> {
  return { directory: `/data/groups/vm${index}`, group: `vm${index}` };
}

function synced(): ScriptedAgent {
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.write(0, 0, pattern(1000, 1));
  agent.spanEnd();
  return agent;
}

async function together(clock: SimClock, memory: StoreMemory, count: number): Promise<Member[]> {
  const members: Member[] = [];
  for (let index = 0; index < count; index += 1) {
    const agent = synced();
    const on = { clock, files: new SimFiles({ clock }), randomness: new SeededRandomness(index + 1) };
    const store = await startedStore(on, agent, { ...placeOf(index), retentionMs: HOUR_MS, memory });
    members.push({ agent, store });
  }
  return members;
}

const sum = (members: readonly Member[], of: 'indexBytes' | 'queuedBytes'): number =>
  members.reduce((all, { store }) => all + store.state[of], 0);

describe('groups that share memory', () => {
  it('give history way where together they need more for indexes: those that use most, and not who uses little', async () => {
    const clock = new SimClock();
    const indexes = new SharedMemory(200_000);
    const members = await together(clock, { indexes, queues: new SharedMemory(1 << 24) }, 5);
    const [quiet, ...busy] = members as [Member, ...Member[]];
    quiet.agent.write(0, 5000, pattern(8, 1));
    quiet.agent.sendTo(quiet.store);
    await quiet.store.settled();
    let most = 0;
    for (let round = 0; round < 30; round += 1) {
      for (const { agent, store } of busy) {
        for (let block = 0; block < 128; block += 1) agent.write(0, block * 1024 + round * 8, pattern(8, round));
        agent.sendTo(store);
        await store.settled();
      }
      await clock.advance(100);
      most = Math.max(most, sum(members, 'indexBytes'));
    }
    // A round of all that is not folded yet comes on top.
    expect(most).toBeLessThan(300_000);
    expect(quiet.store.state.appliedNumber).toBe(0);
    for (const { agent, store } of busy) {
      expect(store.state.appliedNumber).toBeGreaterThan(0);
      // What is left is shared: none has had to give all that it had.
      expect(store.state.appliedNumber).toBeLessThan(agent.lastNumber);
      await expectView(await store.openView(), agent, 'after giving way');
    }
    for (const { store } of members) await store.close({ drain: false });
    expect(indexes.usedBytes).toBe(0);
  });

  it('one alone has all of it', async () => {
    const clock = new SimClock();
    const memory = { indexes: new SharedMemory(200_000), queues: new SharedMemory(1 << 24) };
    const [alone, other] = (await together(clock, memory, 2)) as [Member, Member];
    for (let round = 0; round < 12; round += 1) {
      for (let block = 0; block < 128; block += 1) alone.agent.write(0, block * 1024 + round * 8, pattern(8, round));
      alone.agent.sendTo(alone.store);
      await alone.store.settled();
      await clock.advance(100);
    }
    expect(alone.store.state.indexBytes).toBeGreaterThan(40_000);
    expect([alone.store.state.appliedNumber, other.store.state.appliedNumber]).toEqual([0, 0]);
    for (const { store } of [alone, other]) await store.close({ drain: false });
  });

  it('are told to stop when what waits to be written is too much for all of them, and to go on, each in its turn', async () => {
    const clock = new SimClock();
    const slow = (operation: SimOperation): number => (operation === 'write' ? 20 : operation === 'sync' ? 50 : 0);
    const queues = new SharedMemory(40_000);
    const memory = { indexes: new SharedMemory(1 << 26), queues };
    const members: (Member & { isCongested: boolean; stops: number })[] = [];
    for (let index = 0; index < 8; index += 1) {
      const on = { clock, files: new SimFiles({ clock, delayMs: slow }), randomness: new SeededRandomness(index + 1) };
      const agent = synced();
      const opening = openStore(on, { ...placeOf(index), retentionMs: HOUR_MS, memory, segmentBytes: 1 << 20 });
      await clock.advance(2000);
      const store = await opening;
      const beginning = store.beginLine(agent.line);
      await clock.advance(2000);
      await beginning;
      const member = { agent, store, isCongested: false, stops: 0 };
      store.listener = {
        progressed: () => undefined,
        stalled: () => undefined,
        congested: (now) => {
          member.isCongested = now;
          if (now) member.stops += 1;
        },
        failed: () => undefined,
      };
      agent.sendTo(store);
      members.push(member);
    }
    await clock.advance(2000);
    let most = 0;
    const target = members.map(({ agent }) => agent.lastNumber + 40);
    // Each says what it has as long as it may, a record at a time, as sessions do.
    for (
      let turn = 0;
      turn < 2000 && members.some(({ agent }, at) => agent.lastNumber < (target[at] ?? 0));
      turn += 1
    ) {
      for (const [at, { agent, store, isCongested }] of members.entries()) {
        if (isCongested || agent.lastNumber >= (target[at] ?? 0)) continue;
        agent.write(0, 0, pattern(2000, turn));
        agent.sendTo(store);
      }
      most = Math.max(most, sum(members, 'queuedBytes'));
      await clock.advance(5);
    }
    await clock.advance(5000);
    expect(members.map(({ store }) => store.progress.durableNumber)).toEqual(target);
    // The level, and a record of each beyond it.
    expect(most).toBeLessThan(40_000 + 8 * 2200);
    expect(members.every(({ stops }) => stops > 0)).toBe(true);
    expect([queues.usedBytes, queues.isExhausted]).toEqual([0, false]);
    const closing = Promise.all(members.map(({ store }) => store.close({ drain: false })));
    await clock.advance(5000);
    await closing;
  });

  it('lose nothing to a group whose journal has failed: what it had queued is let go', async () => {
    const clock = new SimClock();
    const queues = new SharedMemory(40_000);
    const files = new SimFiles({ clock });
    const on = { clock, files, randomness: new SeededRandomness(1) };
    const agent = synced();
    const memory = { indexes: new SharedMemory(1 << 26), queues };
    const store = await startedStore(on, agent, { ...placeOf(0), retentionMs: HOUR_MS, memory });
    files.inject({ operation: 'write', path: /\.seg$/, fault: 'io-error' });
    for (let round = 0; round < 10; round += 1) agent.write(0, 0, pattern(2000, round));
    agent.sendTo(store);
    expect(queues.usedBytes).toBeGreaterThan(20_000);
    await clock.advance(100);
    expect([store.progress.stalled, queues.usedBytes, store.state.queuedBytes]).toEqual(['journal-failed', 0, 0]);
    await store.close({ drain: false });
  });
});
