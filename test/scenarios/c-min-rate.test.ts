// There: while the application writes, a resync is held to its smallest rate: not faster, and not starved.
// Here: it yields to the guest by measured activity and is held by --max-rate; it ends all the same, in bounded time.
import { expect, test } from 'vitest';
import {
  MIB,
  expectEqual,
  outage,
  protectedCluster,
  resyncing,
  settled,
  SMALL_WINDOW,
  status,
  write,
} from './scene.js';

test('a resync beside a busy guest keeps to its cap and is not starved', async () => {
  const cluster = await protectedCluster({
    diskBytes: 24 * MIB,
    agent: { ...SMALL_WINDOW, maxBytesPerSecond: 2 * MIB },
  });
  await outage(cluster, async () => {
    await write(cluster, 16 * MIB, 8 * MIB, 'of the outage');
  });
  const before = status(cluster).lastResync?.finishedAt;
  const writing = cluster.workUntil(() => status(cluster).lastResync?.finishedAt !== before, MIB);
  await resyncing(cluster);
  const begunMs = cluster.clock.monotonicMs();
  await cluster.run(writing, 120_000);
  const tookMs = cluster.clock.monotonicMs() - begunMs;
  // A megabyte of the eight was still in the window.
  expect(tookMs).toBeGreaterThan(2_500);
  expect(tookMs).toBeLessThan(20_000);
  await settled(cluster);
  await expectEqual(cluster);
});
