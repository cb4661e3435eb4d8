/** Seeded groups: whole or not at all, content from the start, and no part in any later line. */
import { type CrashFate, SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { BlockKind, HashedRegion, type HashRegion } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from '../store-types.js';
import { ScriptedAgent } from '../testing/scripted-agent.js';
import { difference, DIRECTORY, openStore, OWNER, pattern } from '../testing/store-kit.js';

interface World {
  readonly clock: SimClock;
  files: SimFiles;
  readonly randomness: SeededRandomness;
}

const SIZE = 3 * 1024 * 1024;
const SEED = '/images/base.raw';
const BLOCK = 4096;
const OTHER = '22222222-2222-4333-8444-555555555555';
const THIRD = '33333333-2222-4333-8444-555555555555';

/** What the image holds: data, a hole, data. */
function image(): Buffer {
  const bytes = Buffer.alloc(SIZE);
  pattern(200_000, 3).copy(bytes, 0);
  pattern(300_000, 4).copy(bytes, 2_500_000);
  return bytes;
}

async function world(): Promise<World> {
  const clock = new SimClock();
  const files = new SimFiles({ clock });
  await files.makeDirectory('/images');
  const file = await files.open(SEED, 'create');
  await file.truncate(SIZE);
  await file.write([image().subarray(0, 200_000)], 0);
  await file.write([image().subarray(2_500_000, 2_800_000)], 2_500_000);
  await file.sync();
  await file.close();
  await files.syncDirectory('/images');
  return { clock, files, randomness: new SeededRandomness(7) };
}

function request(number: number): HashRegion {
  return { tag: 1, number, volume: 0, offset: 0, length: SIZE, blockBytes: BLOCK, key: Buffer.alloc(16) };
}

const signal = (): AbortSignal => new AbortController().signal;

interface Begun {
  readonly store: GroupStore;
  readonly agent: ScriptedAgent;
}

/** A first sync over the seed has begun: its volume is there, its span is open. */
async function begun(on: World, options: Partial<GroupStoreOptions>): Promise<Begun> {
  const store = await openStore(on, options);
  await store.seed('disk0', SEED);
  const agent = new ScriptedAgent();
  await store.setOwner(OWNER);
  await store.beginLine(agent.line);
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.sendTo(store);
  await on.clock.advance(10);
  return { store, agent };
}

/** It has ended: only two pieces were different. */
async function synced(on: World, options: Partial<GroupStoreOptions>): Promise<Begun> {
  const { store, agent } = await begun(on, options);
  // As the agent would: asked about everything, told what is the same, sends the rest.
  await store.hashRegion(request(agent.lastNumber), signal());
  agent.write(0, 100_000, pattern(5000, 9));
  agent.zero(0, 2_600_000, 8192);
  agent.spanEnd();
  agent.sendTo(store);
  await on.clock.advance(10);
  return { store, agent };
}

/** The seed with what was sent on top. */
function expected(): Int16Array {
  const bytes = image();
  pattern(5000, 9).copy(bytes, 100_000);
  bytes.fill(0, 2_600_000, 2_600_000 + 8192);
  return Int16Array.from(bytes);
}

async function expectContent(store: GroupStore): Promise<void> {
  const view = await store.openView();
  expect(await difference(view.device('disk0'), { index: 0, name: 'disk0', content: expected() })).toBeNull();
  await view.close();
}

describe('a seeded group', () => {
  it('says so until its first sync has ended, also after a restart', async () => {
    const on = await world();
    const store = await openStore(on);
    await store.seed('disk0', SEED);
    expect(store.state.seeds).toEqual([{ volume: 'disk0', sizeBytes: SIZE }]);
    expect(store.toHubGroup()).toBeNull();
    await store.close({ drain: false });
    const again = await openStore(on);
    expect(again.state.seeds).toEqual([{ volume: 'disk0', sizeBytes: SIZE }]);
    await again.close({ drain: false });
    const { store: after } = await synced(await world(), { retentionMs: 0 });
    expect(after.state.seeds).toBeUndefined();
  });

  const FATES: readonly (CrashFate | 'restart' | 'runs on')[] = ['runs on', 'restart', 'keep', 'lose', 'mixed'];
  it.each(FATES)(
    'keeps its seeds for the next line where the agent of the first one could not begin: %s',
    async (how) => {
      const on = await world();
      let store = await openStore(on);
      await store.seed('disk0', SEED);
      const first = new ScriptedAgent();
      // Its line is there, and nobody came to own it.
      await store.beginLine(first.line);
      if (how === 'restart') {
        await store.close({ drain: false });
        store = await openStore(on);
      } else if (how !== 'runs on') {
        on.files = on.files.crash({ seed: 3, fate: how });
        store = await openStore(on);
      }
      // Cut short at whatever step, it is there for whoever comes next.
      const agent = new ScriptedAgent(OTHER);
      await store.beginLine(agent.line);
      await store.setOwner(OWNER);
      expect(store.state.seeds).toEqual([{ volume: 'disk0', sizeBytes: SIZE }]);
      agent.addVolume(0, 'disk0', SIZE);
      agent.spanBegin();
      agent.write(0, 100_000, pattern(5000, 9));
      agent.zero(0, 2_600_000, 8192);
      agent.spanEnd();
      agent.sendTo(store);
      await on.clock.advance(3000);
      await expectContent(store);
      await store.close({ drain: false });
      const again = await openStore(on);
      await expectContent(again);
      // From now on they are that line's.
      const later = new ScriptedAgent(THIRD);
      await again.beginLine(later.line);
      expect(again.state.seeds).toBeUndefined();
      await again.close({ drain: false });
    },
  );

  it('keeps them wherever the disk fails while one line that nobody owns gives way to the next', async () => {
    const counted = await world();
    const seeded = async (on: World): Promise<GroupStore> => {
      const store = await openStore(on);
      await store.seed('disk0', SEED);
      await store.beginLine(new ScriptedAgent().line);
      return store;
    };
    const before = await seeded(counted).then(() => counted.files.changes);
    for (let step = 1; ; step += 1) {
      for (const fate of ['keep', 'lose'] as const) {
        const on = await world();
        const store = await seeded(on);
        on.files.crashAt(before + step);
        const isOver = await store.beginLine(new ScriptedAgent(OTHER).line).then(
          () => true,
          () => false,
        );
        if (isOver) {
          expect(step).toBeGreaterThan(5);
          return;
        }
        const after = { ...on, files: on.files.crash({ seed: step, fate }) };
        const again = await openStore(after);
        expect(again.state.seeds, `step ${step}, ${fate}`).toEqual([{ volume: 'disk0', sizeBytes: SIZE }]);
        // Whoever comes: the one that could not begin, or another one.
        const agent = new ScriptedAgent([undefined, OTHER, THIRD][step % 3]);
        await again.beginLine(agent.line);
        await again.setOwner(OWNER);
        agent.addVolume(0, 'disk0', SIZE);
        agent.spanBegin();
        agent.write(0, 100_000, pattern(5000, 9));
        agent.zero(0, 2_600_000, 8192);
        agent.spanEnd();
        agent.sendTo(again);
        await on.clock.advance(3000);
        await expectContent(again);
        await again.close({ drain: false });
      }
    }
  });

  it('is what a volume begins with, also one that has grown before anybody asked', async () => {
    const on = await world();
    const { store, agent } = await begun(on, { retentionMs: 3_600_000 });
    agent.resize(0, SIZE + 1024 * 1024);
    agent.sendTo(store);
    await on.clock.advance(10);
    const answer = await store.hashRegion(request(agent.lastNumber), signal());
    expect(new HashedRegion(request(1), answer).kind(0)).toBe(BlockKind.Data);
    agent.write(0, SIZE, pattern(4096, 5));
    agent.spanEnd();
    agent.sendTo(store);
    await on.clock.advance(10);
    await store.close({ drain: true });
    const expected = Buffer.concat([image(), pattern(4096, 5), Buffer.alloc(1024 * 1024 - 4096)]);
    const found = Buffer.alloc(expected.length);
    const file = await on.files.open(`${DIRECTORY}/base/disk0.raw`, 'read');
    expect(await file.read(found, 0)).toBe(expected.length);
    expect(found.equals(expected)).toBe(true);
    await file.close();
  });

  it('answers with digests of the seed as soon as its volume is there', async () => {
    const on = await world();
    const { store, agent } = await begun(on, { retentionMs: 3_600_000 });
    const region = new HashedRegion(request(1), await store.hashRegion(request(agent.lastNumber), signal()));
    expect([0, 100, 620].map((block) => region.kind(block))).toEqual([BlockKind.Data, BlockKind.Zero, BlockKind.Data]);
  });

  it.each([0, 3_600_000])(
    'holds seed and sync together, live, restarted and drained (retention %i)',
    async (retentionMs) => {
      const on = await world();
      const { store } = await synced(on, { retentionMs });
      await expectContent(store);
      await store.close({ drain: false });
      const again = await openStore(on, { retentionMs });
      await expectContent(again);
      await on.clock.advance(5000);
      await expectContent(again);
      await again.close({ drain: true });
      const drained = await openStore(on, { retentionMs });
      await expectContent(drained);
      await drained.close({ drain: false });
    },
  );

  it('with another line is seeded no more: that one begins empty', async () => {
    const on = await world();
    const { store } = await synced(on, { retentionMs: 0 });
    const other = new ScriptedAgent('22222222-2222-4333-8444-555555555555');
    await store.beginLine(other.line);
    expect(store.state.seeds).toBeUndefined();
    other.addVolume(0, 'disk0', SIZE);
    other.spanBegin();
    other.sendTo(store);
    await on.clock.advance(10);
    const answer = await store.hashRegion(request(other.lastNumber), signal());
    expect(answer).toMatchObject({ covered: SIZE, runs: [SIZE / BLOCK, BlockKind.Zero] });
  });

  it('is refused with history, twice, without a file, and for qcow2', async () => {
    const on = await world();
    const { store } = await synced(on, { retentionMs: 0 });
    await expect(store.seed('disk1', SEED)).rejects.toMatchObject({ code: 'has-history' });
    const other = await world();
    const fresh = await openStore(other);
    await fresh.seed('disk0', SEED);
    await expect(fresh.seed('disk0', SEED)).rejects.toMatchObject({ code: 'seed-exists' });
    await expect(fresh.seed('disk1', '/images/none')).rejects.toMatchObject({ code: 'seed-file' });
    await expect(fresh.seed('disk1', '/images')).rejects.toMatchObject({ code: 'seed-file' });
    for (const sizeBytes of [0, 511, 1_000_001]) {
      const odd = await other.files.open(`/images/${sizeBytes}`, 'create');
      await odd.truncate(sizeBytes);
      await odd.close();
      await expect(fresh.seed('disk1', `/images/${sizeBytes}`)).rejects.toMatchObject({ code: 'seed-file' });
    }
    const qcow = await other.files.open('/images/x.qcow2', 'create');
    await qcow.write([Buffer.from('QFI\xfb', 'latin1')], 0);
    await qcow.close();
    await expect(fresh.seed('disk1', '/images/x.qcow2')).rejects.toMatchObject({ code: 'seed-file' });
  });

  it('keeps what was told to be the same through a crash anywhere in its first sync', async () => {
    let cut = 0;
    for (let step = 1; ; step++) {
      const on = await world();
      const first = await openStore(on, { retentionMs: 0 });
      await first.seed('disk0', SEED);
      await first.close({ drain: false });
      const agent = new ScriptedAgent();
      agent.addVolume(0, 'disk0', SIZE);
      agent.spanBegin();
      const asked = agent.lastNumber;
      agent.write(0, 100_000, pattern(5000, 9));
      agent.zero(0, 2_600_000, 8192);
      agent.spanEnd();
      const run = async (world: World): Promise<GroupStore> => {
        const store = await openStore(world, { retentionMs: 0 });
        await store.setOwner(OWNER);
        await store.beginLine(agent.line);
        if (store.state.lastNumber < asked) {
          agent.sendTo(store, asked);
          // On a disk that is gone the number never becomes durable.
          const patience = new AbortController();
          const answer = store.hashRegion(request(asked), patience.signal);
          answer.catch(() => undefined);
          await world.clock.advance(10);
          patience.abort();
          await answer;
        }
        agent.sendTo(store);
        await world.clock.advance(3000);
        return store;
      };
      on.files.crashAt(on.files.changes + step);
      await run(on).catch((error: unknown) => {
        if (!on.files.crashed) throw error;
      });
      const whole = !on.files.crashed;
      const files = on.files.crash({ seed: step, fate: 'mixed' });
      const store = await run({ ...on, files });
      await expectContent(store);
      await store.close({ drain: true });
      if (whole) break;
      cut += 1;
    }
    expect(cut).toBeGreaterThan(20);
  });

  it('is whole or not there at all, wherever a crash cuts it short', async () => {
    const fates: CrashFate[] = ['keep', 'lose', 'mixed'];
    let cut = 0;
    for (const fate of fates) {
      for (let step = 1; ; step++) {
        const on = await world();
        on.files.crashAt(on.files.changes + step);
        let done = false;
        try {
          const store = await openStore(on);
          await store.seed('disk0', SEED);
          done = true;
        } catch {
          cut += 1;
        }
        const files = on.files.crash({ seed: step, fate });
        const again = await openStore({ ...on, files });
        const seeds = again.state.seeds ?? [];
        if (done) expect(seeds).toHaveLength(1);
        if (seeds.length > 0) {
          const file = await files.open('/data/groups/vm1/seeds/disk0.raw', 'read');
          const bytes = Buffer.alloc(SIZE);
          expect(await file.read(bytes, 0)).toBe(SIZE);
          expect(bytes.equals(image())).toBe(true);
        } else {
          const there = await files.status('/data/groups/vm1/seeds');
          expect(there === null ? [] : await files.list('/data/groups/vm1/seeds')).toEqual([]);
        }
        if (done) break;
      }
    }
    expect(cut).toBeGreaterThan(20);
  });
});
