import { connectNbd } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';

const MIB = 1024 * 1024;

/** The system as it goes on with other volumes, or the same of another size, after an orderly stop of the agent. */
interface Change {
  readonly volumes?: readonly string[];
  readonly sizes?: Readonly<Record<string, number>>;
  readonly allowShrink?: boolean;
}

async function protectedCluster(volumes: readonly string[]): Promise<Cluster> {
  const cluster = new Cluster({ seed: 11, diskBytes: 8 * MIB, volumes });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await settled(cluster);
  await cluster.work(150);
  await settled(cluster);
  return cluster;
}

async function settled(cluster: Cluster): Promise<void> {
  await cluster.waitProtected();
  await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
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

async function expectEqual(cluster: Cluster): Promise<void> {
  for (const volume of cluster.volumes) {
    const upstream = await cluster.upstream(volume);
    const replica = await cluster.replica(volume);
    expect(replica.length, volume).toBe(upstream.length);
    expect(Buffer.compare(replica, upstream), volume).toBe(0);
  }
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
