import { readBytes, writeBytes } from '@rephub/nbd';
import { type Fault, type LogFields, type Logger, StorageFault } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles, type SimOperation } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { DIRECTORY, expectBase, expectView, openStore, OWNER, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 64 * 1024;
const KEPT: Partial<GroupStoreOptions> = { retentionMs: 3_600_000 };

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

function world(files: SimFiles, clock: SimClock): World {
  return { clock, files, randomness: new SeededRandomness(7) };
}

/** What the store told its listener. */
interface Told {
  received: number;
  durable: number;
  stalls: (string | null)[];
  congested: boolean[];
  faults: Fault[];
}

function listen(store: GroupStore): Told {
  const told: Told = { received: 0, durable: 0, stalls: [], congested: [], faults: [] };
  store.listener = {
    progressed(received, durable) {
      told.received = received;
      told.durable = durable;
    },
    stalled: (reason) => told.stalls.push(reason),
    congested: (now) => told.congested.push(now),
    failed: (fault) => told.faults.push(fault),
  };
  return told;
}

/** A log that lists what is said. */
function listTo(said: string[]): Logger {
  const at =
    (level: string) =>
    (event: string, fields: LogFields = {}): void => {
      said.push(`${level} ${event}: ${String(fields['message'])}`);
    };
  return { debug: () => undefined, info: at('info'), warn: at('warn'), error: at('error') };
}

function synced(): ScriptedAgent {
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.write(0, 0, pattern(10_000, 1));
  agent.spanEnd();
  return agent;
}

function started(on: World, agent: ScriptedAgent, options: Partial<GroupStoreOptions> = KEPT): Promise<GroupStore> {
  return startedStore(on, agent, options);
}

describe('group store on a disk with faults', () => {
  let clock: SimClock;
  let files: SimFiles;
  let on: World;
  let agent: ScriptedAgent;
  beforeEach(() => {
    clock = new SimClock();
    files = new SimFiles({ clock });
    on = world(files, clock);
    agent = synced();
  });

  it('FULL: acknowledgements stop, reads go on, everything resumes by itself when there is room', async () => {
    const said: string[] = [];
    const store = await started(on, agent, { ...KEPT, log: listTo(said) });
    const told = listen(store);
    const view = await store.openView();
    const before = agent.lastNumber;
    const full = files.inject({ operation: 'write', path: /\.seg$/, times: Infinity, fault: 'disk-full' });
    agent.write(0, 20_000, pattern(4000, 2));
    agent.sendTo(store);
    await store.settled();
    expect(told.stalls).toEqual(['disk-full']);
    expect(store.state).toMatchObject({ stalled: 'disk-full', durableNumber: before, lastNumber: agent.lastNumber });
    agent.write(0, 30_000, pattern(4000, 3));
    agent.sendTo(store);
    await clock.advance(10_000);
    expect(store.state.durableNumber).toBe(before);
    // A session that begins now must not be told that more is durable.
    expect(() => store.toHubGroup()).toThrow(expect.objectContaining({ code: 'disk-full' }));
    // The full disk has taken the view's point away; what it stood on can be opened again.
    await view.close();
    await expectView(await store.openView(), agent, 'while the disk is full');
    full.remove();
    await clock.advance(3000);
    await store.settled();
    expect(told.stalls).toEqual(['disk-full', null]);
    expect(said.filter((line) => line.includes('journal-'))).toEqual([
      'warn journal-stalled: the journal takes no records: disk-full',
      'info journal-goes-on: the journal takes records again',
    ]);
    expect(told.durable).toBe(agent.lastNumber);
    await expectView(await store.openView(), agent, 'after the disk was full');
    await store.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, 'after the disk was full');
  });

  it('FULL: a disk that is really full stops at the segment, and a test branch ends first', async () => {
    files = new SimFiles({ clock, capacityBytes: 1_400_000 });
    on = world(files, clock);
    const store = await started(on, agent, { ...KEPT, segmentBytes: 128 * 1024 });
    const told = listen(store);
    const branch = await store.openBranch('try', { scratchBytes: 10_000_000 });
    const over: string[] = [];
    branch.onOver((why) => over.push(why));
    await writeBytes(branch.device('disk0'), 0, pattern(4096, 5));
    const filler = await files.open('/filler', 'create');
    const { freeBytes } = await files.room('/');
    await filler.allocate(0, freeBytes - 8192);
    for (let round = 0; round < 12; round += 1) agent.write(0, round * 4096, pattern(16_000, round));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(3000);
    expect(told.stalls).toEqual(['disk-full']);
    expect(over).toHaveLength(1);
    await branch.drop();
    await filler.truncate(0);
    await clock.advance(5000);
    await store.settled();
    expect(store.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber });
    await expectView(await store.openView(), agent, 'room again');
    await store.close({ drain: false });
  });

  it('a failed sync is a failed disk: nothing more is taken or acknowledged until a restart has read it again', async () => {
    const store = await started(on, agent);
    const told = listen(store);
    const before = agent.lastNumber;
    files.inject({ operation: 'sync', path: /\.seg$/, fault: 'io-error' });
    agent.write(0, 20_000, pattern(4000, 2));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(60_000);
    expect(store.state).toMatchObject({ stalled: 'journal-failed', durableNumber: before, consistentNumber: before });
    expect(told.faults.map(({ code }) => code)).toEqual(['journal-failed']);
    agent.write(0, 0, pattern(10, 3));
    expect(() => {
      agent.sendTo(store);
    }).toThrow(StorageFault);
    const view = await store.openView();
    await expectView(view, agent, 'reads go on');
    await view.close();
    await store.close({ drain: false });

    const after = world(files.crash({ seed: 1, fate: 'lose' }), clock);
    const again = await openStore(after, KEPT);
    expect(again.state).toMatchObject({ lastNumber: before, corrupted: null, stalled: null });
    agent.sendTo(again);
    await again.settled();
    await expectView(await again.openView(), agent, 'after the restart');
    await again.close({ drain: false });
  });

  it('a failed sync of a base image ends applying, not receiving', async () => {
    const store = await started(on, agent, { retentionMs: 0 });
    const told = listen(store);
    files.inject({ operation: 'sync', path: 'disk0.raw', fault: 'io-error' });
    await clock.advance(2000);
    expect(told.faults.map(({ code }) => code)).toEqual(['apply-failed']);
    expect(store.state.applyFailed).toContain('sync');
    agent.write(0, 20_000, pattern(4000, 2));
    agent.sendTo(store);
    await store.settled();
    await clock.advance(5000);
    expect(store.state).toMatchObject({ durableNumber: agent.lastNumber, appliedNumber: 0 });
    await expectView(await store.openView(), agent, 'from the journal');
    await expect(store.close({ drain: true })).rejects.toMatchObject({ code: 'apply-failed' });
    const after = world(files.crash({ seed: 1, fate: 'lose' }), clock);
    const again = await openStore(after, { retentionMs: 0 });
    await expectView(await again.openView(), agent, 'after the restart');
    await again.close({ drain: true });
    await expectBase(after.files, agent, agent.lastNumber, 'after the restart');
  });

  it('a lower bound that cannot be written is told once, not each second', async () => {
    const said: string[] = [];
    const store = await started(on, agent, { ...KEPT, log: listTo(said) });
    const rule = files.inject({ operation: 'write', path: /\/durable$/, times: Infinity, fault: 'io-error' });
    for (let round = 0; round < 10; round += 1) {
      if (round === 5) rule.remove();
      if (round === 8) files.inject({ operation: 'write', path: /\/durable$/, fault: 'io-error' });
      agent.write(0, 0, pattern(100, round));
      agent.sendTo(store);
      await store.settled();
      await clock.advance(1500);
    }
    expect(rule.hits).toBeGreaterThan(3);
    expect(said.filter((line) => line.includes('durable-hint-failed'))).toHaveLength(2);
    await store.close({ drain: false });
  });

  it('the base images find no room: applying waits, receiving goes on, applying goes on', async () => {
    const said: string[] = [];
    const store = await started(on, agent, { retentionMs: 0, log: listTo(said) });
    const full = files.inject({ operation: 'write', path: 'disk0.raw', times: Infinity, fault: 'disk-full' });
    await clock.advance(5000);
    expect(full.hits).toBeGreaterThan(1);
    // However often it is tried.
    expect(said.filter((line) => line.includes('apply-'))).toEqual([expect.stringContaining('warn apply-waits')]);
    agent.write(0, 20_000, pattern(4000, 2));
    agent.sendTo(store);
    await store.settled();
    expect(store.state).toMatchObject({ durableNumber: agent.lastNumber, stalled: null });
    expect(store.state.appliedNumber).toBeLessThan(3);
    full.remove();
    await clock.advance(5000);
    expect(store.state.appliedNumber).toBe(agent.lastNumber);
    expect(said.filter((line) => line.includes('apply-'))).toHaveLength(2);
    expect(said.at(-1)).toBe('info apply-goes-on: the base images are brought up to date again');
    await store.close({ drain: false });
    await expectBase(files, agent, agent.lastNumber, 'room again');
  });

  it('TORN: bit rot below the last durable number is named and never served; a span over it heals', async () => {
    const store = await started(on, agent);
    agent.write(0, 20_000, pattern(4000, 2));
    const good = agent.lastNumber;
    agent.write(0, 30_000, pattern(4000, 3));
    agent.write(0, 40_000, pattern(4000, 4));
    agent.sendTo(store);
    await store.settled();
    const last = agent.lastNumber;
    await store.close({ drain: false });
    const [segment] = (await files.list(`${DIRECTORY}/lines/${agent.line.id}`)).filter((name) => name.endsWith('.seg'));
    const file = await files.open(`${DIRECTORY}/lines/${agent.line.id}/${segment}`, 'write');
    const { sizeBytes } = await file.status();
    expect(sizeBytes).toBeLessThan(32 * 1024);
    // The frames lie one after the other behind a header of 4096 bytes.
    let at = 4096 + 88 + 1234;
    for (const { number, frame } of agent.records) if (number <= good) at += frame.length;
    const byte = Buffer.alloc(1);
    await file.read(byte, at);
    await file.write([Buffer.from([byte.readUInt8(0) ^ 1])], at);
    await file.sync();
    await file.close();

    const again = await openStore(on, KEPT);
    expect(again.state.corrupted).toContain(`record ${good + 1}`);
    expect(again.state).toMatchObject({ lastNumber: good, consistentNumber: good });
    const view = await again.openView();
    await expectView(view, agent, 'before the damage');
    const checksum = agent.records.find(({ number }) => number === good)!.checksum;
    agent.spanAfter(last + 1, checksum);
    agent.forget(good + 1, last);
    agent.write(0, 25_000, pattern(20_000, 7));
    agent.sendTo(again);
    await again.settled();
    expect(again.state.corrupted).not.toBeNull();
    await expectView(view, agent, 'held');
    await view.close();
    await again.close({ drain: false });

    const third = await openStore(on, KEPT);
    expect(third.state).toMatchObject({ spanOpen: true, consistentNumber: good, lastNumber: agent.lastNumber });
    await expectView(await third.openView(), agent, 'inside the span');
    agent.spanEnd();
    agent.sendTo(third);
    await third.settled();
    expect(third.state).toMatchObject({ corrupted: null, consistentNumber: agent.lastNumber });
    await expectView(await third.openView(), agent, 'healed');
    await third.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, 'healed');
  });

  it('a journal that lost its durable tail says so', async () => {
    const store = await started(on, agent);
    await store.close({ drain: false });
    const directory = `${DIRECTORY}/lines/${agent.line.id}`;
    const [segment] = (await files.list(directory)).filter((name) => name.endsWith('.seg'));
    const file = await files.open(`${directory}/${segment}`, 'write');
    const { sizeBytes } = await file.status();
    await file.truncate(sizeBytes - 50);
    await file.close();
    const again = await openStore(on, KEPT);
    expect(again.state.corrupted).toContain('record 4');
    expect(again.state.lastNumber).toBe(3);
    // The agent may still have the very record: then nothing is missing.
    agent.sendTo(again);
    await again.settled();
    expect(again.state).toMatchObject({ corrupted: null, consistentNumber: agent.lastNumber });
    await expectView(await again.openView(), agent, 'sent again');
    await again.close({ drain: false });
  });

  it.each([
    ['applied is damaged', 'applied', async (path: string) => await overwrite(path)],
    ['a base image has another size', 'disk0.raw', async (path: string) => await resize(path)],
    ['a base image is missing', 'disk0.raw', async (path: string) => await files.remove(path)],
  ])('when %s, line and base are put aside and the group begins anew (NODISCARD)', async (_what, name, spoil) => {
    const store = await started(on, agent, { retentionMs: 0 });
    await store.close({ drain: true });
    await spoil(`${DIRECTORY}/base/${name}`);
    const again = await openStore(on);
    expect(again.state).toMatchObject({ line: null, consistentNumber: null });
    expect(again.state.corrupted).not.toBeNull();
    expect(again.toHubGroup()).toBeNull();
    const aside = (await files.list(`${DIRECTORY}/lines`)).find((entry) => entry.includes('damaged'));
    expect(await files.list(`${DIRECTORY}/lines/${aside}/base`)).toContain('applied');
    await again.close({ drain: false });
    const third = await openStore(on);
    const anew = synced();
    await third.beginLine(anew.line);
    anew.sendTo(third);
    await third.settled();
    expect(third.state.corrupted).toBeNull();
    await expectView(await third.openView(), anew, 'anew');
    await third.close({ drain: true });
    const fourth = await openStore(on);
    await expectView(await fourth.openView(), anew, 'anew, reopened');
    await fourth.close({ drain: false });
  });

  async function overwrite(path: string): Promise<void> {
    const file = await files.open(path, 'write');
    const { sizeBytes } = await file.status();
    await file.write([Buffer.alloc(sizeBytes, 0xee)], 0);
    await file.close();
  }

  async function resize(path: string): Promise<void> {
    const file = await files.open(path, 'write');
    await file.truncate(SIZE / 2);
    await file.close();
  }

  it('a decision that was damaged is named, a torn last one is cut', async () => {
    const store = await started(on, agent);
    await store.setOwner({ ...OWNER, session: 2 });
    await store.close({ drain: false });
    const path = `${DIRECTORY}/decisions.log`;
    const file = await files.open(path, 'write');
    const { sizeBytes } = await file.status();
    await file.truncate(sizeBytes - 3);
    const again = await openStore(on, KEPT);
    expect(again.state.owner?.session).toBe(1);
    await again.close({ drain: false });
    await file.write([Buffer.from('x')], 100);
    await expect(openStore(on, KEPT)).rejects.toMatchObject({ code: 'decisions-damaged' });
  });

  it('a slow disk congests: the queue is bounded, and the sender is told to stop and to go on', async () => {
    const slow = (operation: SimOperation): number => (operation === 'write' ? 20 : operation === 'sync' ? 50 : 0);
    files = new SimFiles({ clock, delayMs: slow });
    on = world(files, clock);
    const opening = openStore(on, { ...KEPT, queueBytes: 20_000, segmentBytes: 1024 * 1024 });
    await clock.advance(2000);
    const store = await opening;
    const beginning = store.beginLine(agent.line);
    await clock.advance(2000);
    await beginning;
    const told = listen(store);
    agent.sendTo(store);
    await clock.advance(2000);
    for (let round = 0; round < 15; round += 1) agent.write(0, 0, pattern(2000, round));
    agent.sendTo(store);
    expect(told.congested).toEqual([true]);
    await clock.advance(5000);
    expect(told.congested).toEqual([true, false]);
    expect(told.durable).toBe(agent.lastNumber);
    for (let round = 0; round < 60; round += 1) agent.write(0, 0, pattern(2000, round));
    expect(() => {
      agent.sendTo(store);
    }).toThrow(expect.objectContaining({ code: 'queue-full' }));
    await clock.advance(5000);
    agent.sendTo(store, store.state.lastNumber + 1);
    const closing = store.close({ drain: false });
    await clock.advance(5000);
    await closing;
  });

  it('the index memory cap shortens history from the old end, and takes points away only at twice the cap', async () => {
    const indexBytes = 40_000;
    const store = await started(on, agent, { ...KEPT, indexBytes });
    const view = await store.openView();
    const expired: string[] = [];
    view.onExpired((why) => expired.push(why));
    const device = view.device('disk0');
    for (let round = 0; round < 60 && expired.length === 0; round += 1) {
      for (let block = 0; block < 64; block += 1) agent.write(0, block * 1024 + round * 8, pattern(8, round));
      agent.sendTo(store);
      await store.settled();
      await clock.advance(100);
      expect(store.state.indexBytes).toBeLessThan(3 * indexBytes);
    }
    expect(expired).toHaveLength(1);
    await expect(readBytes(device, 0, 10)).rejects.toMatchObject({ nbdError: 5 });
    await view.close();
    await clock.advance(1000);
    expect(store.state.indexBytes).toBeLessThan(2 * indexBytes);
    await expectView(await store.openView(), agent, 'after the cap');
    await store.close({ drain: false });
  });
});
