/** What a verification has found different becomes an event at the hub, whoever is killed meanwhile, before or after it is repaired. */
import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { cooled } from './settled.js';

const MIB = 1024 * 1024;
const LATENCY_MS = 20;

async function protectedCluster(): Promise<Cluster> {
  const cluster = new Cluster({ seed: 5, diskBytes: 8 * MIB, linkLatencyMs: LATENCY_MS });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cooled(cluster);
  await cluster.work(50);
  await cooled(cluster);
  return cluster;
}

/** Bits rot at the hub, where everything is in the base image and the agent is in step. */
async function spoil(cluster: Cluster, round: number): Promise<void> {
  await cluster.stopHub(true);
  // Each time another bit, so that none turns back.
  cluster.hubFiles.rot('/data/groups/vm1/base/disk0.raw', (round % 16) * 65_536 + round, 4);
  await cluster.startHub();
  await cooled(cluster);
}

const isEqual = async (cluster: Cluster): Promise<boolean> =>
  (await cluster.replica('disk0')).equals(await cluster.upstream('disk0'));
const toldTimes = (cluster: Cluster): number =>
  cluster.hub?.hub.events.after(null, 5000).filter(({ event }) => event === 'verify-differs').length ?? 0;

describe('a difference that a verification has found', () => {
  it('is told by the next process when the agent is killed at any moment before the hub has heard of it', async () => {
    const cluster = await protectedCluster();
    let toldLater = 0;
    for (let round = 0; round < 20; round++) {
      await spoil(cluster, round);
      const before = toldTimes(cluster);
      cluster.agent?.verify();
      // From when it is found until the hub hears of it, one latency after it was noted and marked.
      await cluster.clock.runUntil(() => (cluster.agent?.status().counters.verifyDiffersBytes ?? 0) > 0);
      await cluster.clock.advance(round);
      cluster.cutLink();
      cluster.killAgent('keep');
      await cluster.clock.advance(1000);
      const wasTold = toldTimes(cluster) > before;
      await cluster.startAgent();
      await cooled(cluster);
      await cluster.clock.advance(2000);
      const isTold = toldTimes(cluster) > before;
      if (!wasTold && isTold) toldLater += 1;
      if (await isEqual(cluster))
        expect(isTold, `killed ${round} ms after it was found: repaired, and nobody was told`).toBe(true);
      else {
        cluster.agent?.verify();
        await cluster.clock.runUntil(() => toldTimes(cluster) > before);
        await cooled(cluster);
      }
    }
    expect(toldLater).toBeGreaterThan(3);
  });

  it('is told again when the hub loses power with the event, and the agent is killed too', async () => {
    const cluster = await protectedCluster();
    await spoil(cluster, 1);
    const before = toldTimes(cluster);
    cluster.agent?.verify();
    await cluster.clock.runUntil(() => toldTimes(cluster) > before);
    await cooled(cluster);
    cluster.killHub('lose');
    cluster.killAgent('keep');
    await cluster.startHub();
    expect(toldTimes(cluster)).toBe(before);
    await cluster.startAgent();
    await cooled(cluster);
    await cluster.clock.runUntil(() => toldTimes(cluster) > before);
  });

  it('is told once where nobody dies, and no more by the processes after', async () => {
    const cluster = await protectedCluster();
    await spoil(cluster, 1);
    const before = toldTimes(cluster);
    cluster.agent?.verify();
    await cluster.clock.runUntil(() => toldTimes(cluster) > before);
    await cooled(cluster);
    // The event is synced within 10 s, and the agent hears of that with a beat.
    await cluster.clock.advance(13_000);
    cluster.killAgent('keep');
    await cluster.stopHub(false);
    await cluster.startHub();
    await cluster.startAgent();
    await cooled(cluster);
    await cluster.clock.advance(5000);
    expect(toldTimes(cluster)).toBe(before + 1);
    expect(cluster.agent?.status().counters.verifyDiffersBytes).toBe(0);
  });
});
