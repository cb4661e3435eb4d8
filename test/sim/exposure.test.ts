import { expect, it } from 'vitest';
import { Cluster } from './cluster.js';

it('after a crash of the agent the RPO is unknown at first, then not better than what the hub has shows (promise RPO)', async () => {
  const cluster = new Cluster({ seed: 8, diskBytes: 8 << 20, linkLatencyMs: 5, agent: { maxBytesPerSecond: 400_000 } });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  await cluster.work(100);
  await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
  cluster.silenceHub(true);
  cluster.cutLink();
  await cluster.work(100);
  const lost = cluster.clock.monotonicMs();
  cluster.killAgent('keep');
  await cluster.clock.advance(30_000);
  await cluster.startAgent();
  expect(cluster.agent?.status().rpoSeconds).toBeNull();
  cluster.silenceHub(false);
  await cluster.clock.runUntil(() => cluster.agent?.status().hub?.connected === true);
  const seconds = cluster.agent?.status().rpoSeconds ?? 0;
  expect(seconds).toBeGreaterThanOrEqual((cluster.clock.monotonicMs() - lost) / 1000);
  expect(seconds).toBeLessThan(60);
  await cluster.waitProtected();
  await cluster.clock.runUntil(() => cluster.agent?.status().rpoSeconds === 0);
});
