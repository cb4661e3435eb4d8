import { flushDevice, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import { FrameReader } from '@rephub/protocol';
import { BaseSet } from './base/base-set.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import {
  difference,
  DIRECTORY,
  expectBase,
  expectView,
  openStore,
  OWNER,
  pattern,
  startedStore,
} from './testing/store-kit.js';

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

function world(files?: SimFiles, clock = new SimClock()): World {
  return { clock, files: files ?? new SimFiles({ clock }), randomness: new SeededRandomness(7) };
}

const SIZE = 64 * 1024;

/** A group whose first sync has ended: one volume with some content. */
function synced(): ScriptedAgent {
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.write(0, 0, pattern(10_000, 1));
  agent.zero(0, 20_000, 5_000);
  agent.write(0, 30_000, pattern(3_000, 2));
  agent.spanEnd();
  return agent;
}

describe('group store', () => {
  let on: World;
  let agent: ScriptedAgent;
  beforeEach(() => {
    on = world();
    agent = synced();
  });

  it('a new group is unknown until it has an owner and a line', async () => {
    const store = await openStore(on);
    expect(store.toHubGroup()).toBeNull();
    await store.setOwner(OWNER);
    expect(store.toHubGroup()).toBeNull();
    await store.beginLine(agent.line);
    expect(store.toHubGroup()).toMatchObject({
      owner: OWNER.agentId,
      lastNumber: 0,
      consistentNumber: null,
      volumes: [],
    });
    await store.close({ drain: false });
  });

  it('what was received is durable, visible after the span and the same after a restart', async () => {
    const store = await startedStore(on, agent, { retentionMs: 3_600_000 });
    expect(store.state).toMatchObject({
      lastNumber: agent.lastNumber,
      durableNumber: agent.lastNumber,
      spanOpen: false,
    });
    const view = await store.openView();
    await expectView(view, agent, 'live');
    await view.close();
    await store.close({ drain: false });

    const again = await openStore(on, { retentionMs: 3_600_000 });
    expect(again.state).toMatchObject({
      lastNumber: agent.lastNumber,
      consistentNumber: agent.lastNumber,
      corrupted: null,
    });
    const reopened = await again.openView();
    await expectView(reopened, agent, 'restarted');
    await again.close({ drain: false });
  });

  it('LASTGOOD: nothing of an open span is visible, everything is once it has ended', async () => {
    const store = await startedStore(on, agent);
    const before = agent.lastNumber;
    agent.spanBegin(10);
    agent.write(0, 0, pattern(4096, 9));
    agent.addVolume(1, 'disk1', 8192);
    agent.sendTo(store);
    await store.settled();
    await on.clock.advance(5000);
    expect(store.state).toMatchObject({ consistentNumber: before, spanOpen: true });
    const view = await store.openView();
    expect(view.number).toBe(before);
    await expectView(view, agent, 'inside the span');
    agent.spanEnd();
    agent.sendTo(store);
    await store.settled();
    await on.clock.advance(5000);
    await expectView(view, agent, 'held over the end of the span');
    const after = await store.openView();
    expect(after.number).toBe(agent.lastNumber);
    await expectView(after, agent, 'after the span');
    await store.close({ drain: false });
  });

  it('PIT: a view stays what it was while later writes are received and applied', async () => {
    const store = await startedStore(on, agent);
    const view = await store.openView();
    for (let round = 0; round < 20; round += 1) {
      agent.write(0, (round * 3000) % (SIZE - 5000), pattern(5000, 100 + round));
      agent.zero(0, (round * 7000) % (SIZE - 5000), 900, true);
      agent.sendTo(store);
      await store.settled();
      await on.clock.advance(1500);
      await expectView(view, agent, `round ${round}`);
    }
    await view.close();
    await on.clock.advance(5000);
    expect(store.state.appliedNumber).toBe(agent.lastNumber);
    await expectBase(on.files, agent, agent.lastNumber, 'applied');
    await store.close({ drain: false });
  });

  it('drained at the stop, the base images alone hold the last point', async () => {
    const store = await startedStore(on, agent, { retentionMs: 3_600_000 });
    agent.write(0, 50_000, pattern(6000, 3));
    agent.sendTo(store);
    await store.close({ drain: true });
    await expectBase(on.files, agent, agent.lastNumber, 'drained');
    const again = await openStore(on);
    expect(again.state).toMatchObject({ appliedNumber: agent.lastNumber, lastNumber: agent.lastNumber });
    agent.write(0, 1, pattern(100, 4));
    agent.sendTo(again);
    await again.settled();
    await expectView(await again.openView(), agent, 'after the drain');
    await again.close({ drain: true });
    await expectBase(on.files, agent, agent.lastNumber, 'drained again');
  });

  it('a first sync is applied while it runs, so that the journal stays small', async () => {
    const first = new ScriptedAgent();
    first.addVolume(0, 'disk0', SIZE);
    first.spanBegin();
    const store = await startedStore(on, first, { retentionMs: 86_400_000 });
    for (let round = 0; round < 60; round += 1) {
      first.write(0, (round * 1021) % (SIZE - 4096), pattern(4096, round));
      first.sendTo(store);
      await store.settled();
      await on.clock.advance(1100);
    }
    expect(store.state.consistentNumber).toBeNull();
    expect(store.state.journalBytes).toBeLessThan(5 * 32 * 1024);
    await expect(store.openView()).rejects.toMatchObject({ code: 'no-consistent-point' });
    first.spanEnd();
    first.sendTo(store);
    await store.settled();
    await expectView(await store.openView(), first, 'after the first sync');
    await store.close({ drain: false });
  });

  it.each([
    ['another line', 'record-line', (other: ScriptedAgent) => other.records[0]!.frame],
    ['a number twice', 'record-number', (_: ScriptedAgent, same: ScriptedAgent) => same.records[3]!.frame],
  ])('refuses %s and changes nothing', async (_what, code, frameOf) => {
    const store = await startedStore(on, agent);
    const other = new ScriptedAgent('99999999-2222-4333-8444-555555555555');
    other.flush(0);
    const before = store.state.lastNumber;
    const reader = new FrameReader({
      frame: (header, raw) => {
        store.append(header, raw);
      },
    });
    expect(() => {
      reader.push(frameOf(other, agent));
    }).toThrow(expect.objectContaining({ code }));
    expect(store.state.lastNumber).toBe(before);
    agent.flush(0);
    agent.sendTo(store);
    await store.settled();
    expect(store.state.durableNumber).toBe(agent.lastNumber);
    await store.close({ drain: false });
  });

  it('SIZE: refuses a range outside its volume, an unknown volume and a broken chain', async () => {
    const store = await startedStore(on, agent);
    const fails = (make: (rogue: ScriptedAgent) => void, code: string): void => {
      const rogue = synced();
      make(rogue);
      expect(() => {
        rogue.sendTo(store);
      }).toThrow(expect.objectContaining({ code }));
    };
    fails((rogue) => {
      rogue.zero(0, SIZE - 10, 11);
    }, 'record-range');
    fails((rogue) => {
      rogue.zero(5, 0, 11);
    }, 'record-volume');
    fails((rogue) => {
      rogue.addVolume(1, 'disk0', 4096);
    }, 'record-volume');
    fails((rogue) => {
      rogue.spanEnd();
    }, 'record-span');
    fails((rogue) => {
      rogue.spanAfter(rogue.lastNumber + 5, 12345);
    }, 'record-chain');
    expect(store.state.lastNumber).toBe(agent.lastNumber);
    await store.close({ drain: false });
  });

  it('an unreadable range answers EIO, before and after it is applied, until it is written', async () => {
    const store = await startedStore(on, agent);
    agent.unreadable(0, 8000, 2000);
    agent.sendTo(store);
    await store.settled();
    expect(store.state.volumes[0]?.unreadableBytes).toBe(2000);
    await expectView(await store.openView(), agent, 'in a layer');
    await store.close({ drain: true });
    const again = await openStore(on);
    expect(again.state.volumes[0]?.unreadableBytes).toBe(2000);
    await expectView(await again.openView(), agent, 'in the base');
    agent.write(0, 8000, pattern(1500, 5));
    agent.sendTo(again);
    await again.settled();
    expect(again.state.volumes[0]?.unreadableBytes).toBe(500);
    await again.close({ drain: true });
    const last = await openStore(on);
    expect(last.state.volumes[0]?.unreadableBytes).toBe(500);
    await expectView(await last.openView(), agent, 'healed in part');
    await last.close({ drain: false });
  });

  it('what could not be read of a volume goes with it, also what was found in the layer of its removal', async () => {
    agent.addVolume(1, 'disk1', SIZE);
    agent.unreadable(0, 40_000, 100);
    agent.unreadable(1, 8000, 2000);
    const store = await startedStore(on, agent);
    await store.drain();
    const stored = (): ReturnType<BaseSet['readUnreadable']> =>
      new BaseSet(on.files, `${DIRECTORY}/base`, null, new Set()).readUnreadable();
    expect((await stored()).size).toBe(2);
    const before = store.state.indexBytes;
    agent.unreadable(1, 20_000, 2000);
    agent.removeVolume(1);
    agent.sendTo(store);
    await store.settled();
    await store.drain();
    expect([...(await stored()).values()]).toEqual([[[40_000, 40_100]]]);
    expect(store.state.indexBytes).toBeLessThan(before);
    agent.unreadable(0, 50_000, 100);
    agent.sendTo(store);
    await store.settled();
    await store.close({ drain: true });
    expect((await stored()).size).toBe(1);
  });

  it('a volume that is removed goes aside, another of its name begins empty', async () => {
    const store = await startedStore(on, agent);
    await on.clock.advance(3000);
    agent.removeVolume(0);
    agent.addVolume(3, 'disk0', 4096);
    agent.write(3, 100, pattern(50, 6));
    agent.sendTo(store);
    await store.settled();
    await expectView(await store.openView(), agent, 'new volume');
    await store.close({ drain: true });
    expect((await on.files.list(`${DIRECTORY}/base`)).filter((name) => name.includes('removed'))).toHaveLength(1);
    await expectBase(on.files, agent, agent.lastNumber, 'new volume');
    const again = await openStore(on);
    await expectView(await again.openView(), agent, 'reopened');
    await again.close({ drain: false });
  });

  it('a volume that shrinks and grows again reads as zeroes where it was cut off', async () => {
    const store = await startedStore(on, agent);
    await on.clock.advance(3000);
    const view = await store.openView();
    agent.resize(0, 5000);
    agent.resize(0, 9000);
    agent.write(0, 8000, pattern(500, 8));
    agent.sendTo(store);
    await store.settled();
    await expectView(view, agent, 'the old size');
    await view.close();
    const after = await store.openView();
    await expectView(after, agent, 'the new size');
    await after.close();
    await store.close({ drain: true });
    await expectBase(on.files, agent, agent.lastNumber, 'the new size');
  });

  it('another line keeps the old one aside with its base (NODISCARD)', async () => {
    const store = await startedStore(on, agent);
    await on.clock.advance(3000);
    const other = new ScriptedAgent('99999999-2222-4333-8444-555555555555');
    other.addVolume(0, 'disk0', 4096);
    other.spanBegin();
    other.write(0, 0, pattern(4096, 77));
    other.spanEnd();
    await store.beginLine(other.line);
    other.sendTo(store);
    await store.settled();
    await expectView(await store.openView(), other, 'other line');
    await store.close({ drain: true });
    expect(await on.files.list(`${DIRECTORY}/lines/${agent.line.id}/base`)).toContain('disk0.raw');
    await expectBase(on.files, other, other.lastNumber, 'other line');
    const again = await openStore(on);
    expect(again.state.line).toEqual(other.line);
    await again.close({ drain: false });
  });

  it('ISOLATE: a branch reads its own writes, and the replica never changes', async () => {
    const store = await startedStore(on, agent, { retentionMs: 0 });
    const branch = await store.openBranch('try', { scratchBytes: 1_000_000 });
    expect(branch.line).toBeNull();
    const device = branch.device('disk0');
    const model = agent.modelAt(branch.number)[0]!;
    expect(await difference(device, model)).toBeNull();
    await writeBytes(device, 5000, pattern(9000, 50));
    await writeBytes(device, 6000, pattern(100, 51), true);
    await zeroRange(device, 7000, 500);
    await trimRange(device, 40_000, 1000);
    await flushDevice(device);
    model.content.set(pattern(9000, 50), 5000);
    model.content.set(pattern(100, 51), 6000);
    model.content.fill(0, 7000, 7500);
    model.content.fill(0, 40_000, 41_000);
    expect(branch.line?.parent).toEqual({ id: agent.line.id, number: branch.number });
    agent.write(0, 0, pattern(SIZE, 60));
    agent.sendTo(store);
    await store.settled();
    await on.clock.advance(3000);
    expect(await difference(device, model)).toBeNull();
    await expectView(await store.openView(), agent, 'beside the branch');
    await branch.drop();
    expect(store.state.branches).toEqual([]);
    expect(await on.files.list(`${DIRECTORY}/branches`)).toEqual([]);
    await store.close({ drain: true });
    await expectBase(on.files, agent, agent.lastNumber, 'after the branch');
  });

  it('a branch over its limit fails writes with ENOSPC and tells; it can still be read', async () => {
    const store = await startedStore(on, agent);
    const branch = await store.openBranch('small', { scratchBytes: 20_000 });
    const told: string[] = [];
    branch.onOver((why) => told.push(why));
    const device = branch.device('disk0');
    await writeBytes(device, 0, pattern(15_000, 1));
    await expect(writeBytes(device, 0, pattern(15_000, 2))).rejects.toMatchObject({ nbdError: 28 });
    expect(told).toHaveLength(1);
    expect(await readBytes(device, 0, 15_000)).toEqual(pattern(15_000, 1));
    await expect(store.openBranch('small', { scratchBytes: 1 })).rejects.toMatchObject({ code: 'branch-exists' });
    await branch.drop();
    await store.close({ drain: false });
  });

  it('a branch that was open when the hub died is gone at the next start', async () => {
    const store = await startedStore(on, agent);
    const branch = await store.openBranch('left', { scratchBytes: 1_000_000 });
    await writeBytes(branch.device('disk0'), 0, pattern(4096, 1), true);
    const after = world(on.files.crash({ seed: 3, fate: 'keep' }), on.clock);
    const again = await openStore(after);
    expect(again.state.branches).toEqual([]);
    expect(await after.files.list(`${DIRECTORY}/branches`)).toEqual([]);
    await expectView(await again.openView(), agent, 'after the crash');
    await again.close({ drain: false });
  });
});
