// There: a volume is added to a resource in use; it becomes up to date, and the state of none of the others changes.
// Here: volumes are added anywhere in the list, taken from anywhere in it, and change places, between two starts of the
// agent: only who is new is sent, points from before stay whole, and numbers belong to names (promises SIZE, NOFULL, PIT).
import { readBytes } from '@rephub/nbd';
import { SeededRandomness } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { Cluster } from '../sim/cluster.js';
import { copiedBytes, expectEqual, KIB, MIB, protectedCluster, settled, status, write } from './scene.js';

const SIZE = 8 * MIB;
const THREE = { volumes: ['root', 'swap', 'data'], diskBytes: SIZE, retentionMs: 3_600_000 };

async function makeDisk(cluster: Cluster, name: string, fill: string): Promise<void> {
  const { files } = cluster.agentHost;
  const make = async (): Promise<void> => {
    const file = await files.open(`/${name}.raw`, 'create');
    await file.truncate(SIZE);
    await file.write([Buffer.alloc(SIZE / 2, `${fill};`)], 0);
    await file.sync();
    await file.close();
    await files.syncDirectory('/');
  };
  await cluster.run(make());
}

async function goOnWith(cluster: Cluster, volumes: readonly string[]): Promise<void> {
  cluster.options = { ...cluster.options, volumes };
  await cluster.startAgent();
}

function storeOf(cluster: Cluster): NonNullable<ReturnType<NonNullable<Cluster['hub']>['hub']['group']>['store']> {
  const store = cluster.hub?.hub.group('vm1').store ?? null;
  if (store === null) throw new Error('the group is not open');
  return store;
}

const numbersAt = (cluster: Cluster): Record<string, number> =>
  Object.fromEntries(storeOf(cluster).state.volumes.map(({ name, index }) => [name, index]));

test('one from the middle of three goes under load: points from before have all three, nothing of the others is sent', async () => {
  const cluster = await protectedCluster(THREE);
  await cluster.work(200, SIZE);
  await settled(cluster);
  const before = await Promise.all(cluster.volumes.map((name) => cluster.upstream(name)));
  const view = await cluster.run(storeOf(cluster).openView());
  await cluster.stopAgent();
  await goOnWith(cluster, ['root', 'data']);
  // What is written before the hub has answered is marked and copied, as always: so the link comes first.
  await settled(cluster);
  await cluster.work(200, SIZE);
  await settled(cluster);
  expect([status(cluster).hub?.lastVerdict, copiedBytes(cluster)]).toEqual(['L19-volume-set', 0]);
  expect(numbersAt(cluster)).toEqual({ root: 0, data: 2 });
  await expectEqual(cluster);
  await expect(cluster.replica('swap')).rejects.toThrow();
  for (const [at, name] of THREE.volumes.entries()) {
    const held = await cluster.run(readBytes(view.device(name), 0, SIZE));
    expect(held.equals(before[at] ?? Buffer.alloc(0)), name).toBe(true);
  }
  await cluster.run(view.close());
  await cluster.stopAgent();
  await cluster.startAgent();
  await settled(cluster);
  expect(status(cluster).hub?.lastVerdict).toBe('L15-equal');
  await cluster.stopHub(true);
  expect(Buffer.compare(await cluster.base('data'), await cluster.upstream('data'))).toBe(0);
});

test('a new one in front gets a number of its own and is sent alone; until it is there the last point has the others', async () => {
  const cluster = await protectedCluster(THREE);
  await cluster.work(100, SIZE);
  await settled(cluster);
  await makeDisk(cluster, 'log', 'what the new one holds');
  await cluster.stopAgent();
  cluster.options = { ...cluster.options, agent: { maxBytesPerSecond: MIB } };
  await goOnWith(cluster, ['log', 'data', 'root', 'swap']);
  await cluster.clock.runUntil(() => (status(cluster).resync?.bytesDone ?? 0) > 0);
  const view = await cluster.run(storeOf(cluster).openView());
  expect(view.volumes.map(({ name }) => name).sort()).toEqual(['data', 'root', 'swap']);
  await cluster.run(view.close());
  await write(cluster, 0, 64 * KIB, 'meanwhile', 'root');
  await settled(cluster);
  expect(numbersAt(cluster)).toEqual({ root: 0, swap: 1, data: 2, log: 3 });
  expect(copiedBytes(cluster)).toBe(SIZE / 2);
  await expectEqual(cluster);
});

test('another order changes nothing', async () => {
  const cluster = await protectedCluster(THREE);
  await cluster.work(100, SIZE);
  await settled(cluster);
  for (const order of [
    ['data', 'root', 'swap'],
    ['swap', 'data', 'root'],
  ]) {
    await cluster.stopAgent();
    await goOnWith(cluster, order);
    await settled(cluster);
    expect([status(cluster).hub?.lastVerdict, copiedBytes(cluster)]).toEqual(['L15-equal', 0]);
    await cluster.work(50, SIZE);
    await settled(cluster);
    await expectEqual(cluster);
  }
  cluster.killAgent('keep');
  await goOnWith(cluster, ['root', 'swap', 'data']);
  await settled(cluster);
  expect(status(cluster).tracking.found).toBe('marked');
  await expectEqual(cluster);
});

test('numbers that are not the places in the list: growth, verification, remote reads and copies find their volumes', async () => {
  const cluster = await protectedCluster(THREE);
  await cluster.stopAgent();
  await makeDisk(cluster, 'log', 'what the new one holds');
  await goOnWith(cluster, ['log', 'data', 'root']);
  await settled(cluster);
  expect(numbersAt(cluster)).toEqual({ root: 0, data: 2, log: 3 });
  for (const [at, name] of cluster.volumes.entries()) await write(cluster, at * MIB, 256 * KIB, `only ${name}`, name);
  await cluster.clock.advance(20_000);
  const group = cluster.hub?.hub.group('vm1');
  for (const [at, name] of cluster.volumes.entries()) {
    const order = { volume: name, offset: at * MIB, length: 64 * KIB, timeoutMs: 5_000 };
    const answer = await cluster.run(group?.readRegion(order) ?? Promise.resolve(null));
    expect(answer?.bytes.toString('latin1', 0, 16), name).toContain(`only ${name}`);
  }
  await cluster.clock.advance(20_000);
  const { files } = cluster.agentHost;
  const grow = async (): Promise<void> => {
    const file = await files.open('/data.raw', 'write');
    await file.truncate(SIZE + 4 * MIB);
    await file.write([Buffer.alloc(64 * KIB, 'beyond')], SIZE + MIB);
    await file.sync();
    await file.close();
  };
  await cluster.run(grow());
  await cluster.clock.runUntil(() => status(cluster).volumes.some(({ sizeBytes }) => sizeBytes > SIZE), 60_000);
  await settled(cluster);
  expect(storeOf(cluster).state.volumes.map(({ index, sizeBytes }) => [index, sizeBytes / MIB])).toEqual([
    [0, 8],
    [2, 12],
    [3, 8],
  ]);
  cluster.agent?.verify();
  await cluster.clock.runUntil(() => typeof status(cluster).verify?.finishedAt === 'string', 120_000);
  expect(status(cluster).verify).toMatchObject({ bytesSame: 28 * MIB, bytesDiffer: 0, bytesUnknown: 0 });
  const resync = cluster.agent?.resync(false, true);
  await cluster.run(resync ?? Promise.resolve());
  await settled(cluster);
  await expectEqual(cluster);
});

test('one that goes and comes back while the hub is away is compared with what the hub still has of it', async () => {
  const cluster = await protectedCluster(THREE);
  await cluster.work(100, SIZE);
  await settled(cluster);
  await cluster.stopHub(false);
  await cluster.stopAgent();
  await goOnWith(cluster, ['data', 'root']);
  await write(cluster, 0, 128 * KIB, 'while it is away', 'data');
  await cluster.stopAgent();
  // Somebody writes to it whom nobody sees.
  const { files } = cluster.agentHost;
  const spoil = async (): Promise<void> => {
    const file = await files.open('/swap.raw', 'write');
    await file.write([Buffer.alloc(4096, 'unseen')], 5 * MIB);
    await file.close();
  };
  await cluster.run(spoil());
  await goOnWith(cluster, ['swap', 'data', 'root']);
  await cluster.startHub();
  await settled(cluster);
  expect(numbersAt(cluster)).toEqual({ root: 0, swap: 1, data: 2 });
  expect(copiedBytes(cluster)).toBeLessThan(512 * KIB);
  await expectEqual(cluster);
});

test('one that comes back after the hub was told of its removal is sent anew, over a seeded line as well', async () => {
  for (const isSeeded of [false, true]) {
    const cluster = new Cluster({ seed: 3, ...THREE });
    await cluster.makeDisks();
    await cluster.startHub();
    if (isSeeded) {
      const file = await cluster.run(cluster.hubFiles.open('/old.raw', 'create'));
      await cluster.run(file.truncate(SIZE));
      await cluster.run(file.write([Buffer.alloc(SIZE / 2, 'an old copy;')], 0));
      await cluster.run(file.close());
      const { hub } = cluster;
      if (hub === null) throw new Error('no hub is running');
      for (const name of THREE.volumes) await cluster.run(hub.hub.seed('vm1', name, '/old.raw'));
    }
    await cluster.startAgent();
    await settled(cluster);
    await write(cluster, 0, 2 * MIB, 'of the first time', 'swap');
    await settled(cluster);
    const view = await cluster.run(storeOf(cluster).openView());
    const held = await cluster.upstream('swap');
    await cluster.stopAgent();
    await goOnWith(cluster, ['root', 'data']);
    await settled(cluster);
    await cluster.stopAgent();
    await goOnWith(cluster, ['swap', 'root', 'data']);
    await settled(cluster);
    await write(cluster, 3 * MIB, 64 * KIB, 'of the second time', 'swap');
    await settled(cluster);
    await expectEqual(cluster);
    expect((await cluster.run(readBytes(view.device('swap'), 0, SIZE))).equals(held)).toBe(true);
    await cluster.run(view.close());
    // A hub that starts again finds both of that name apart, whether or not the first one's removal was folded.
    cluster.killHub('lose');
    await cluster.startHub();
    await settled(cluster);
    await expectEqual(cluster);
    await cluster.stopAgent();
    await cluster.stopHub(true);
    expect(Buffer.compare(await cluster.base('swap'), await cluster.upstream('swap'))).toBe(0);
  }
});

test('an agent that has lost which numbers were given is refused by a hub that knows them, and takes them at its next start', async () => {
  const cluster = await protectedCluster(THREE);
  await cluster.work(50, SIZE);
  await settled(cluster);
  await makeDisk(cluster, 'log', 'what the new one holds');
  await cluster.stopHub(false);
  await cluster.stopAgent();
  await goOnWith(cluster, ['root', 'swap']);
  await cluster.stopAgent();
  await cluster.run(cluster.agentHost.files.remove('/state/numbers'));
  await goOnWith(cluster, ['log', 'root', 'swap']);
  await cluster.startHub();
  await cluster.clock.runUntil(() => status(cluster).hub?.refused === true);
  expect(status(cluster).reason).toMatch(/volume log as number 2 .* volume data as number 2 .* started again it takes/);
  await write(cluster, 0, 64 * KIB, 'meanwhile', 'root');
  expect(numbersAt(cluster)).toEqual({ root: 0, swap: 1, data: 2 });
  await cluster.stopAgent();
  await cluster.startAgent();
  await settled(cluster);
  expect(numbersAt(cluster)).toEqual({ root: 0, swap: 1, log: 3 });
  expect([status(cluster).tracking.found, copiedBytes(cluster)]).toEqual(['marked', SIZE / 2 + 64 * KIB]);
  await expectEqual(cluster);
});

test(
  'again and again at random, whoever is killed or cut off meanwhile (random, seeded)',
  { timeout: 120_000 },
  async () => {
    const pool = ['root', 'swap', 'data', 'log', 'home'];
    for (let seed = 1; seed <= 10; seed++) {
      const random = new SeededRandomness(seed);
      const below = (limit: number): number => Math.floor(random.fraction() * limit);
      const cluster = await protectedCluster({ ...THREE, seed, retentionMs: below(2) * 3_600_000 });
      for (const name of ['log', 'home']) await makeDisk(cluster, name, name);
      for (let step = 0; step < 8; step++) {
        await cluster.work(below(60), SIZE).catch(() => undefined);
        if (below(3) === 0) await cluster.clock.advance(below(8_000));
        const blow = below(7);
        if (blow === 0) cluster.killAgent('keep');
        else if (blow === 1) cluster.killAgent('mixed');
        else if (blow === 2) cluster.killHub('keep');
        else if (blow === 3) cluster.killHub('lose');
        else if (blow === 4) cluster.cutLink();
        if (blow === 5) await cluster.stopHub(below(2) === 0);
        await cluster.clock.advance(below(50));
        if (cluster.hub === null && below(3) > 0) await cluster.startHub();
        await cluster.stopAgent();
        const list = pool.filter((name) => name === 'root' || below(3) > 0);
        list.sort(() => below(3) - 1);
        await goOnWith(cluster, list);
        expect(status(cluster).tracking.found, `seed ${seed}, step ${step}`).not.toBe('untrusted');
        // So long that a session may be in any step of it.
        if (cluster.hub !== null) await cluster.clock.advance(below(60));
      }
      if (cluster.hub === null) await cluster.startHub();
      await settled(cluster);
      expect(status(cluster).hub?.refused, `seed ${seed}`).toBe(false);
      await expectEqual(cluster);
      await cluster.stopAgent();
      await cluster.stopHub(true);
      for (const name of cluster.volumes) {
        expect(Buffer.compare(await cluster.base(name), await cluster.upstream(name)), `seed ${seed}: ${name}`).toBe(0);
      }
    }
  },
);
