import { connectNbd, writeBytes } from '@rephub/nbd';
import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { expectEqual, settled } from './settled.js';

const MIB = 1024 * 1024;

/** The system as it goes on with other volumes, or the same of another size, after an orderly stop of the agent. */
interface Change {
  readonly volumes?: readonly string[];
  readonly sizes?: Readonly<Record<string, number>>;
  readonly allowShrink?: boolean;
}

async function protectedCluster(volumes: readonly string[], seed = 11): Promise<Cluster> {
  const cluster = new Cluster({ seed, diskBytes: 8 * MIB, volumes });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await settled(cluster);
  await cluster.work(150);
  await settled(cluster);
  return cluster;
}

async function change(cluster: Cluster, { volumes, sizes, allowShrink }: Change): Promise<void> {
  await cluster.stopAgent();
  const alter = async (): Promise<void> => {
    for (const [name, sizeBytes] of Object.entries(sizes ?? {})) {
      const file = await cluster.agentHost.files.open(`/${name}.raw`, 'create');
      await file.truncate(sizeBytes);
      await file.sync();
      await file.close();
    }
  };
  await cluster.run(alter());
  cluster.options = {
    ...cluster.options,
    ...(volumes === undefined ? {} : { volumes }),
    agent: { allowShrink: allowShrink ?? false },
  };
  await cluster.startAgent();
}

describe('volumes that change (promise SIZE)', () => {
  it('a volume that has grown while the agent was down is replicated with its new size', async () => {
    const cluster = await protectedCluster(['root', 'data']);
    await change(cluster, { sizes: { data: 12 * MIB + 4096 } });
    await settled(cluster);
    await cluster.work(100);
    await settled(cluster);
    await expectEqual(cluster);
    await cluster.stopAgent();
    await cluster.stopHub(true);
    expect((await cluster.base('data')).length).toBe(12 * MIB + 4096);
    expect(Buffer.compare(await cluster.base('data'), await cluster.upstream('data'))).toBe(0);
  });

  it('a volume that has shrunk is refused before anything is changed, and taken by the word of the operator', async () => {
    const cluster = await protectedCluster(['root']);
    await expect(change(cluster, { sizes: { root: 4 * MIB } })).rejects.toMatchObject({ code: 'wrong-size' });
    expect((await cluster.replica('root')).length).toBe(8 * MIB);
    await change(cluster, { allowShrink: true });
    await settled(cluster);
    expect(cluster.agent?.status().hub?.lastVerdict).toBe('L14-untrusted');
    await expectEqual(cluster);
  });

  it('a volume that is added is first-synced, while the others stay as they were at the last good point', async () => {
    const cluster = await protectedCluster(['root']);
    await change(cluster, { volumes: ['root', 'data'], sizes: { data: 4 * MIB } });
    await settled(cluster);
    await cluster.work(100, 4 * MIB);
    await settled(cluster);
    await expectEqual(cluster);
  });

  it('a volume that is taken away is removed at the hub, and the next start has nothing to do', async () => {
    const cluster = await protectedCluster(['root', 'data']);
    await change(cluster, { volumes: ['root'] });
    await settled(cluster);
    await expectEqual(cluster);
    const gone = connectNbd(cluster.agentHost, 'nbd+unix:///vm1%2Fdata?socket=/run/hub.sock');
    await expect(cluster.run(gone)).rejects.toThrow();
    await cluster.stopAgent();
    await cluster.startAgent();
    await settled(cluster);
    expect(cluster.agent?.status().hub?.lastVerdict).toBe('L15-equal');
  });
});

/** The file becomes so large, as by `truncate`, with something in what is new. */
async function growFile(cluster: Cluster, name: string, sizeBytes: number, fill = 0x77): Promise<void> {
  const grow = async (): Promise<void> => {
    const file = await cluster.agentHost.files.open(`/${name}.raw`, 'write');
    const { sizeBytes: before } = await file.status();
    await file.truncate(sizeBytes);
    await file.write([Buffer.alloc(8192, fill)], before + 4096);
    await file.sync();
    await file.close();
  };
  await cluster.run(grow());
}

const sizeOf = (cluster: Cluster, name: string): number =>
  cluster.agent?.status().volumes.find((volume) => volume.name === name)?.sizeBytes ?? 0;

async function waitGrown(cluster: Cluster, name: string, sizeBytes: number): Promise<void> {
  await cluster.clock.runUntil(() => sizeOf(cluster, name) === sizeBytes, 60_000);
}

describe('a volume that grows under a running agent (promise SIZE)', () => {
  it('is replicated with its new size and what it holds there; guests that come see it, those that are there go on', async () => {
    const cluster = await protectedCluster(['root', 'data']);
    const old = await cluster.guest('data');
    await growFile(cluster, 'data', 12 * MIB + 4096);
    await waitGrown(cluster, 'data', 12 * MIB + 4096);
    const uri = 'nbd+unix:///data?socket=/run/vm.sock';
    const fresh = await cluster.run(connectNbd(cluster.agentHost, uri));
    expect([old.sizeBytes, fresh.sizeBytes]).toEqual([8 * MIB, 12 * MIB + 4096]);
    await cluster.run(writeBytes(fresh, 12 * MIB, Buffer.alloc(4096, 1)));
    await cluster.run(writeBytes(old, 8 * MIB - 4096, Buffer.alloc(4096, 2)));
    await settled(cluster);
    await cluster.work(100);
    await settled(cluster);
    await expectEqual(cluster);
    expect(cluster.agent?.status().lastResync?.cause).toContain('has grown from 8388608 to 12587008');
    expect(cluster.agent?.status().lastResync?.bytesSent).toBeLessThan(256 * 1024);
    await cluster.stopAgent();
    await cluster.startAgent();
    await settled(cluster);
    expect(cluster.agent?.status().hub?.lastVerdict).toBe('L15-equal');
    await cluster.stopAgent();
    await cluster.stopHub(true);
    expect(Buffer.compare(await cluster.base('data'), await cluster.upstream('data'))).toBe(0);
  });

  it('twice within one span, the hub away in between: what the window holds of the size in between is taken', async () => {
    for (let delayMs = 0; delayMs <= 5; delayMs += 0.5) {
      const cluster = await protectedCluster(['root'], 5);
      const fill = async (): Promise<void> => {
        const file = await cluster.agentHost.files.open('/root.raw', 'write');
        await file.truncate(11 * MIB);
        await file.write([Buffer.alloc(3 * MIB, 0x55)], 8 * MIB);
        await file.close();
      };
      await cluster.run(fill());
      const seq = cluster.agent?.status().seq ?? 0;
      // The span has begun, and what announces the size is on its way.
      await cluster.clock.runUntil(() => (cluster.agent?.status().seq ?? 0) > seq, 60_000);
      await cluster.clock.advance(delayMs);
      cluster.killHub('lose');
      await growFile(cluster, 'root', 12 * MIB + 512);
      await waitGrown(cluster, 'root', 12 * MIB + 512);
      await cluster.startHub();
      await settled(cluster);
      await expectEqual(cluster);
      expect(cluster.agent?.status().hub?.refused, `after ${delayMs} ms`).toBe(false);
      await cluster.stopAgent();
      await cluster.stopHub(true);
      expect((await cluster.base('root')).length).toBe(12 * MIB + 512);
    }
  });

  it('leaves the last good point, with the size it had then, openable while what is new is sent', async () => {
    const cluster = await protectedCluster(['root']);
    await cluster.stopHub(false);
    await growFile(cluster, 'root', 12 * MIB);
    await waitGrown(cluster, 'root', 12 * MIB);
    await cluster.startHub();
    expect((await cluster.replica('root')).length).toBe(8 * MIB);
    await settled(cluster);
    await expectEqual(cluster);
  });

  it('is no sign of a disk changed behind the agent, also when the agent is killed an hour later', async () => {
    const cluster = await protectedCluster(['root']);
    await cluster.clock.advance(3_600_000);
    await growFile(cluster, 'root', 12 * MIB);
    await waitGrown(cluster, 'root', 12 * MIB);
    await settled(cluster);
    await cluster.clock.advance(3_600_000);
    cluster.killAgent('keep');
    await cluster.startAgent();
    expect(cluster.agent?.status().tracking.found).toBe('marked');
    await settled(cluster);
    await expectEqual(cluster);
  });

  it('in sync mode with freeze: no write fails, and the mode is in force again when what is new is there', async () => {
    const cluster = new Cluster({ seed: 4, diskBytes: 8 * MIB, agent: { mode: 'sync', onDisconnect: 'freeze' } });
    await cluster.makeDisks();
    await cluster.startHub();
    await cluster.startAgent();
    await settled(cluster);
    const before = cluster.answered;
    await growFile(cluster, 'disk0', 12 * MIB);
    for (let round = 0; round < 30; round++) {
      await cluster.work(10, 8 * MIB);
      await cluster.clock.advance(400);
    }
    expect(cluster.answered - before).toBe(300);
    expect(sizeOf(cluster, 'disk0')).toBe(12 * MIB);
    await settled(cluster);
    await cluster.clock.runUntil(() => cluster.agent?.status().effectiveMode === 'sync');
    await expectEqual(cluster);
  });

  it('is not taken while its size is no whole number of sectors; one that shrinks stays as it was', async () => {
    const cluster = await protectedCluster(['root']);
    await growFile(cluster, 'root', 12 * MIB + 100);
    await cluster.clock.advance(60_000);
    expect(sizeOf(cluster, 'root')).toBe(8 * MIB);
    await growFile(cluster, 'root', 13 * MIB);
    await waitGrown(cluster, 'root', 13 * MIB);
    await settled(cluster);
    const shrink = async (): Promise<void> => {
      const file = await cluster.agentHost.files.open('/root.raw', 'write');
      await file.truncate(9 * MIB);
      await file.close();
    };
    await cluster.run(shrink());
    await cluster.clock.advance(60_000);
    expect(sizeOf(cluster, 'root')).toBe(13 * MIB);
    expect((await cluster.replica('root')).length).toBe(13 * MIB);
  });

  it(
    'again and again at random times, whoever is killed or cut off meanwhile (random, seeded)',
    { timeout: 120_000 },
    async () => {
      for (let seed = 1; seed <= 12; seed++) {
        const random = new SeededRandomness(seed);
        const below = (limit: number): number => Math.floor(random.fraction() * limit);
        const cluster = await protectedCluster(['root', 'data'], seed);
        const sizes = new Map(cluster.volumes.map((name) => [name, 8 * MIB]));
        for (let step = 0; step < 6; step++) {
          const name = below(2) === 0 ? 'root' : 'data';
          const larger = (sizes.get(name) ?? 0) + (1 + below(8000)) * 512;
          sizes.set(name, larger);
          await growFile(cluster, name, larger, 1 + below(200));
          await cluster.clock.advance(below(14_000));
          await cluster.work(below(40), 8 * MIB).catch(() => undefined);
          const blow = below(6);
          // So long after it may have been noticed that any step of it may be under way.
          if (below(2) === 0) {
            await cluster.clock.runUntil(() => sizeOf(cluster, name) === larger, 60_000).catch(() => undefined);
            await cluster.clock.advance(below(40) / 10);
          }
          if (blow === 0) cluster.killAgent('keep');
          else if (blow === 1) cluster.killAgent('mixed');
          else if (blow === 2) cluster.killHub('keep');
          else if (blow === 3) cluster.killHub('lose');
          else if (blow === 4) cluster.cutLink();
          else await cluster.stopAgent();
          await cluster.clock.advance(below(3000));
          if (cluster.hub === null) await cluster.startHub();
          if (cluster.agent === null) await cluster.startAgent();
          await cluster.work(below(30), 8 * MIB);
        }
        for (const [name, size] of sizes) await waitGrown(cluster, name, size);
        await settled(cluster);
        const seen = async (): Promise<void> => {
          for (const volume of cluster.volumes) {
            const upstream = await cluster.upstream(volume);
            expect(upstream.length, `seed ${seed}`).toBe(sizes.get(volume));
            expect(Buffer.compare(await cluster.replica(volume), upstream), `seed ${seed}, ${volume}`).toBe(0);
          }
        };
        await seen();
        await cluster.stopAgent();
        await cluster.stopHub(true);
      }
    },
  );

  it('a volume that grows during its first sync from a seed is compared with the seed all the same', async () => {
    const cluster = new Cluster({ seed: 5, diskBytes: 16 * MIB, agent: { maxBytesPerSecond: 512 * 1024 } });
    await cluster.makeDisks();
    const write = async (
      files: Cluster['hubFiles'],
      path: string,
      contents: readonly (Buffer | null)[],
    ): Promise<void> => {
      const file = await files.open(path, 'create');
      await file.truncate(contents.length * MIB);
      for (const [at, bytes] of contents.entries()) if (bytes !== null) await file.write([bytes], at * MIB);
      await file.sync();
      await file.close();
    };
    const old = Array.from({ length: 16 }, (_, at) => Buffer.alloc(MIB, `seed ${at};`));
    // Equal at first, then something else, then zeroes where the seed has content.
    const now = old.map((bytes, at) => (at < 6 ? bytes : at < 10 ? Buffer.alloc(MIB, `now ${at};`) : null));
    await cluster.run(write(cluster.hubFiles, '/old.raw', old));
    await cluster.run(write(cluster.agentHost.files, '/disk0.raw', now));
    await cluster.startHub();
    await cluster.run(cluster.hub?.hub.seed('vm1', 'disk0', '/old.raw') ?? Promise.reject(new Error('no hub')));
    await cluster.startAgent();
    await cluster.clock.runUntil(() => (cluster.agent?.status().resync?.bytesDone ?? 0) > 2 * MIB);
    await cluster.run(write(cluster.agentHost.files, '/disk0.raw', [...now, null, Buffer.alloc(MIB, 'new')]));
    await settled(cluster);
    expect(cluster.agent?.status().volumes).toEqual([{ name: 'disk0', sizeBytes: 18 * MIB }]);
    await expectEqual(cluster);
  });
});
