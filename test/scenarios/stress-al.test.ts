// There: an activity log with few slots, and writes all over the disk.
// Here: the fewest hot extents there may be, writes over twice as many, and a crash: nothing is missed, little is marked.
import { expect, test } from 'vitest';
import { expectEqual, MIB, protectedCluster, settled, status } from './scene.js';

test('writes over twice as many extents as can be hot survive a crash', async () => {
  const cluster = await protectedCluster({ diskBytes: 128 * MIB, agent: { hotExtents: 16 } });
  const writing = cluster.work(500).catch(() => undefined);
  await cluster.clock.runUntil(() => cluster.answered >= 300);
  expect(status(cluster).hotExtents).toBeLessThanOrEqual(16);
  cluster.killAgent('mixed');
  await cluster.run(writing);
  await cluster.startAgent();
  // Sixteen extents, and the blocks of what had been cooled and was not proven yet.
  expect(status(cluster).dirtyBytes).toBeLessThan(16 * 4 * MIB + 32 * MIB);
  await settled(cluster);
  await cluster.work(100);
  await settled(cluster);
  await expectEqual(cluster);
});
