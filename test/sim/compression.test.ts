/** The whole system with everything compressed that shrinks: every promise holds as it does without. */
import { readBytes } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { BLOCK, Cluster, type ClusterOptions } from './cluster.js';
import { runScript } from './run.js';
import { scriptOf } from './script.js';
import { expectEqual, settled } from './settled.js';

const MIB = 1024 * 1024;
const LIMIT_MS = 240_000;

async function protectedCluster(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const cluster = new Cluster({ seed: 3, diskBytes: 16 * MIB, agent: { compress: 'lz4' }, ...options });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  return cluster;
}

async function expectSettledEqual(cluster: Cluster): Promise<void> {
  await settled(cluster);
  await expectEqual(cluster);
}

function saved(cluster: Cluster): number {
  const counters = cluster.agent?.status().counters;
  return counters === undefined ? 0 : counters.compressedRawBytes - counters.compressedBytes;
}

describe('with all that shrinks compressed', () => {
  it('the replica is the disk, also after a power cut of the hub, and so is the base image', async () => {
    const cluster = await protectedCluster({ volumes: ['root', 'data'] });
    await cluster.work(500);
    expect(saved(cluster)).toBeGreaterThan(MIB);
    await expectSettledEqual(cluster);
    cluster.killHub('mixed');
    await cluster.work(100);
    await cluster.startHub();
    await cluster.waitProtected();
    await expectSettledEqual(cluster);
    expect(await cluster.stopAgent()).toBe(true);
    await cluster.stopHub(true);
    for (const volume of cluster.volumes) {
      expect(Buffer.compare(await cluster.base(volume), await cluster.upstream(volume)), volume).toBe(0);
    }
  });

  it('a window of compressed records is resumed as it is: no resync', async () => {
    const cluster = await protectedCluster();
    await cluster.work(100);
    const before = cluster.agent?.status().counters.copiedBytes;
    for (let cut = 0; cut < 8; cut++) {
      cluster.cutLink();
      await cluster.work(50);
      await cluster.clock.advance(300);
    }
    await cluster.waitProtected();
    await expectSettledEqual(cluster);
    expect(cluster.agent?.status().counters.copiedBytes).toBe(before);
    expect(saved(cluster)).toBeGreaterThan(0);
  });

  it('a hub without the codec gets no window of compressed records: what they covered is copied', async () => {
    const cluster = await protectedCluster({ linkLatencyMs: 200 });
    await cluster.work(100);
    await expectSettledEqual(cluster);
    // Everything is in the base image, so that nothing compressed is left at the hub.
    await cluster.stopHub(true);
    await cluster.startHub();
    await cluster.waitProtected();
    const before = saved(cluster);
    await cluster.work(20);
    expect(saved(cluster)).toBeGreaterThan(before);
    cluster.killHub('lose');
    cluster.options = { ...cluster.options, hubCodecs: false };
    await cluster.clock.runUntil(() => cluster.agent?.status().agentConnected === false);
    await cluster.startHub();
    await cluster.clock.runUntil(() => cluster.agent?.status().agentConnected === true);
    await cluster.waitProtected();
    const status = cluster.agent?.status();
    expect(status?.compression).toEqual({ wish: 'lz4', codec: null, active: false });
    expect(status?.lastResync?.cause).toContain('resync-by-bitmap');
    await cluster.work(100);
    await expectSettledEqual(cluster);
    expect(cluster.agent?.status().counters.compressedBytes).toBe(status?.counters.compressedBytes);
  });

  it('verifies as equal', async () => {
    const cluster = await protectedCluster();
    await cluster.work(300);
    await expectSettledEqual(cluster);
    cluster.agent?.verify();
    await cluster.clock.runUntil(() => (cluster.agent?.status().verify?.finishedAt ?? null) !== null);
    expect(cluster.agent?.status().verify).toMatchObject({ bytesDiffer: 0, bytesUnknown: 0 });
    const client = await cluster.guest('disk0');
    await cluster.run(readBytes(client, 0, BLOCK));
  });

  it.each([101, 102, 103])('keeps every promise in seed %i', { timeout: LIMIT_MS }, async (seed) => {
    const script = scriptOf(seed);
    const { violation, error } = await runScript({ ...script, setup: { ...script.setup, compress: 'lz4' } });
    expect(error).toBeNull();
    expect(violation?.message ?? null).toBeNull();
  });
});
