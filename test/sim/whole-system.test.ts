import { describe, expect, it } from 'vitest';
import { Cluster, type ClusterOptions } from './cluster.js';
import { expectEqual, settled } from './settled.js';

const MIB = 1024 * 1024;

async function protectedCluster(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const cluster = new Cluster({ seed: 1, diskBytes: 16 * MIB, ...options });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  await cluster.clock.runUntil(() => cluster.agent?.status().hotExtents === 0);
  await cluster.clock.advance(100);
  return cluster;
}

describe('agent and hub in one thread', () => {
  it('mirrors what the guest writes while it writes', async () => {
    const cluster = await protectedCluster();
    await cluster.work(500);
    await settled(cluster);
    expect(cluster.agent?.status().rpoSeconds).toBe(0);
    await expectEqual(cluster);
  });

  it('has the base image equal upstream after an orderly stop', async () => {
    const cluster = await protectedCluster({ volumes: ['root', 'data'] });
    await cluster.work(500);
    expect(await cluster.stopAgent()).toBe(true);
    await cluster.stopHub(true);
    for (const volume of cluster.volumes) {
      expect(Buffer.compare(await cluster.base(volume), await cluster.upstream(volume)), volume).toBe(0);
    }
  });

  it('resumes a short cut from the window, without a resync', async () => {
    const cluster = await protectedCluster();
    await cluster.work(100);
    const before = cluster.agent?.status().counters.copiedBytes;
    for (let cut = 0; cut < 5; cut++) {
      cluster.cutLink();
      await cluster.work(50);
      await cluster.clock.advance(300);
    }
    await settled(cluster);
    expect(cluster.agent?.status().counters.copiedBytes).toBe(before);
    await expectEqual(cluster);
  });

  it('after a longer outage sends only what changed', async () => {
    const cluster = await protectedCluster({ diskBytes: 64 * MIB, agent: { windowBytes: MIB } });
    await cluster.work(300);
    await settled(cluster);
    const before = cluster.agent?.status().counters.copiedBytes ?? 0;
    cluster.silenceHub(true);
    await cluster.work(400, 4 * MIB);
    await cluster.clock.advance(20_000);
    expect(cluster.agent?.status().state).toBe('degraded');
    expect(cluster.agent?.status().rpoSeconds).toBeGreaterThan(15);
    cluster.silenceHub(false);
    await settled(cluster);
    const resent = (cluster.agent?.status().counters.copiedBytes ?? 0) - before;
    expect(resent).toBeGreaterThan(0);
    expect(resent).toBeLessThanOrEqual(4 * MIB);
    await expectEqual(cluster);
  });

  it('does nothing after an orderly stop and start of the agent', async () => {
    const cluster = await protectedCluster();
    await cluster.work(300);
    await settled(cluster);
    await cluster.stopAgent();
    await cluster.startAgent();
    await cluster.waitProtected();
    expect(cluster.agent?.status().hub?.lastVerdict).toBe('L15-equal');
    expect(cluster.agent?.status().counters.copiedBytes).toBe(0);
    await expectEqual(cluster);
  });

  it('keeps the last good point open while a resync runs (promise LASTGOOD)', async () => {
    const cluster = await protectedCluster({ agent: { windowBytes: MIB, maxBytesPerSecond: 200_000 } });
    await cluster.work(200);
    await settled(cluster);
    const good = await cluster.upstream('disk0');
    cluster.silenceHub(true);
    await cluster.work(600, 8 * MIB);
    cluster.silenceHub(false);
    await cluster.clock.runUntil(() => cluster.agent?.status().resync !== null);
    await cluster.clock.advance(2_000);
    expect(cluster.agent?.status().state).toBe('catching-up');
    const during = await cluster.replica('disk0');
    // What was in the window when the cut came is streamed before the span: a later good point than `good`.
    expect(during.length).toBe(good.length);
    expect(Buffer.compare(during, await cluster.replica('disk0'))).toBe(0);
    await settled(cluster);
    await expectEqual(cluster);
  });

  it('copies and streams overlapping writes in one order (promise ORD)', async () => {
    for (let seed = 30; seed < 34; seed++) {
      const cluster = await protectedCluster({
        seed,
        diskBytes: 4 * MIB,
        linkLatencyMs: 2,
        agent: { windowBytes: MIB },
      });
      for (let round = 0; round < 2; round++) {
        const before = cluster.agent?.status().lastResync?.finishedAt;
        const writing = cluster.workUntil(() => cluster.agent?.status().lastResync?.finishedAt !== before, MIB);
        cluster.silenceHub(true);
        await cluster.clock.advance(7_000);
        cluster.silenceHub(false);
        await cluster.run(writing, 600_000);
        await settled(cluster);
        await expectEqual(cluster);
      }
    }
  });

  for (const fate of ['keep', 'lose', 'tear', 'garble', 'mixed'] as const) {
    it(`has what the hub acknowledged after a crash of the hub that leaves unsynced bytes to fate ${fate}`, async () => {
      for (let seed = 10; seed < 14; seed++) {
        const cluster = await protectedCluster({ seed, linkLatencyMs: 4 });
        const writing = cluster.work(300);
        await cluster.clock.runUntil(() => cluster.answered >= 20 * (seed % 9));
        cluster.killHub(fate);
        await writing;
        await cluster.clock.advance(100);
        await cluster.startHub();
        await settled(cluster);
        expect(cluster.agent?.status().hub?.lastVerdict, `seed ${seed}`).toBe('L16-resume');
        await expectEqual(cluster);
      }
    });

    it(`converges after a crash of the agent that leaves unsynced bytes to fate ${fate} (promise SUPERSET)`, async () => {
      for (let seed = 20; seed < 26; seed++) {
        const cluster = await protectedCluster({ seed, diskBytes: 32 * MIB, linkLatencyMs: 4 });
        const hotBytes = 8 * MIB;
        const writing = cluster.work(400, hotBytes).catch(() => undefined);
        await cluster.clock.runUntil(() => cluster.answered >= 1 + 30 * (seed % 9));
        cluster.killAgent(fate);
        await cluster.run(writing);
        await cluster.startAgent();
        expect(cluster.agent?.status().dirtyBytes, `seed ${seed}`).toBeLessThan(32 * MIB);
        await settled(cluster);
        await cluster.work(50);
        await settled(cluster);
        await expectEqual(cluster);
      }
    });
  }

  it('after a killed agent sends at most its hot extents again (promise NOFULL)', async () => {
    const cluster = await protectedCluster({ diskBytes: 64 * MIB });
    await cluster.work(300);
    await settled(cluster);
    await cluster.clock.advance(30_000);
    expect(cluster.agent?.status().hotExtents).toBe(0);
    const before = cluster.answered;
    const hot = cluster.work(200, 8 * MIB).catch(() => undefined);
    await cluster.clock.runUntil(() => cluster.answered >= before + 100);
    cluster.killAgent('keep');
    await cluster.run(hot);
    await cluster.startAgent();
    expect(cluster.agent?.status().dirtyBytes).toBeLessThanOrEqual(8 * MIB);
    expect(cluster.agent?.status().dirtyBytes).toBeGreaterThan(0);
    await settled(cluster);
    await expectEqual(cluster);
  });

  it('refuses a second agent for the same group, and keeps the first', async () => {
    const cluster = await protectedCluster();
    const other = new Cluster({ seed: 77, diskBytes: 16 * MIB, world: cluster, guestSocket: '/run/other.sock' });
    await other.makeDisks();
    await other.startAgent();
    await cluster.clock.advance(5_000);
    expect(other.agent?.status().state).toBe('unprotected');
    expect(other.agent?.status().reason).toContain('belongs to agent');
    expect(cluster.agent?.status().state).toBe('protected');
    await cluster.work(50);
    await settled(cluster);
    await expectEqual(cluster);
  });
});
