import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';

const MIB = 1024 * 1024;

async function protectedCluster(): Promise<Cluster> {
  const cluster = new Cluster({ seed: 3, diskBytes: 64 * MIB });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  await cluster.work(200);
  await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0 && cluster.agent.status().hotExtents === 0);
  return cluster;
}

/** As a VM does that is started without the agent. */
async function changeDisk(cluster: Cluster): Promise<void> {
  const change = async (): Promise<void> => {
    const file = await cluster.agentHost.files.open('/disk0.raw', 'write');
    await file.write([Buffer.alloc(4096, 'nobody saw this')], 40 * MIB);
    await file.sync();
    await file.close();
  };
  await cluster.run(change());
}

async function copyDisk(cluster: Cluster): Promise<void> {
  const { files } = cluster.agentHost;
  const copy = async (): Promise<void> => {
    const file = await files.open('/copy.raw', 'create-new');
    await file.write([await cluster.upstream('disk0')], 0);
    await file.sync();
    await file.close();
    await files.syncDirectory('/');
  };
  await cluster.run(copy());
}

async function expectHealed(cluster: Cluster): Promise<void> {
  await cluster.waitProtected();
  expect(cluster.agent?.status().tracking.found).toBe('untrusted');
  expect(cluster.agent?.status().tracking.reason).toContain('disk0 /disk0.raw');
  expect(Buffer.compare(await cluster.replica('disk0'), await cluster.upstream('disk0'))).toBe(0);
}

describe('a disk changed while no agent was between', () => {
  it('is compared in full after an orderly stop', async () => {
    const cluster = await protectedCluster();
    await cluster.stopAgent();
    await cluster.clock.advance(1_000);
    await changeDisk(cluster);
    await cluster.startAgent();
    await expectHealed(cluster);
  });

  it('is compared in full after a crash', async () => {
    const cluster = await protectedCluster();
    cluster.killAgent('keep');
    await cluster.clock.advance(60_000);
    await changeDisk(cluster);
    await cluster.startAgent();
    await expectHealed(cluster);
  });

  it('is not suspected when the guest wrote until the crash, whatever the wall clock did', async () => {
    const cluster = await protectedCluster();
    await cluster.clock.advance(300_000);
    cluster.clock.jumpUnix(3_600_000);
    await cluster.clock.advance(2_000);
    await cluster.work(100, 4 * MIB);
    cluster.killAgent('keep');
    await cluster.clock.advance(60_000);
    await cluster.startAgent();
    expect(cluster.agent?.status().tracking.found).toBe('marked');
    expect(cluster.agent?.status().dirtyBytes).toBeLessThanOrEqual(8 * MIB);
  });

  it('is compared in full after an orderly stop that left marks, however soon it was changed', async () => {
    const cluster = await protectedCluster();
    await cluster.stopHub(false);
    await cluster.work(20, 4 * MIB);
    expect(await cluster.stopAgent()).toBe(true);
    await cluster.clock.advance(2_000);
    await changeDisk(cluster);
    await cluster.startHub();
    await cluster.startAgent();
    await expectHealed(cluster);
  });

  it.each(['stopped', 'killed'] as const)(
    'is compared in full when an older copy has taken its place while the agent was %s',
    async (how) => {
      const cluster = await protectedCluster();
      await copyDisk(cluster);
      await cluster.clock.advance(60_000);
      await cluster.work(100);
      await cluster.stopHub(false);
      await cluster.work(20, 4 * MIB);
      if (how === 'stopped') await cluster.stopAgent();
      else cluster.killAgent('keep');
      await cluster.clock.advance(300_000);
      await cluster.run(cluster.agentHost.files.rename('/copy.raw', '/disk0.raw'));
      await cluster.startHub();
      await cluster.startAgent();
      await expectHealed(cluster);
    },
  );

  it('is not suspected after an orderly stop that left marks', async () => {
    const cluster = await protectedCluster();
    await cluster.stopHub(false);
    await cluster.work(20, 4 * MIB);
    await cluster.stopAgent();
    await cluster.clock.advance(300_000);
    await cluster.startHub();
    await cluster.startAgent();
    expect(cluster.agent?.status().tracking.found).toBe('marked');
  });
});
