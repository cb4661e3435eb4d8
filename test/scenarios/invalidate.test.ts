// There: one side's data is declared void, and comes anew from the other.
// Here: the hub's, by `resync --compare`: everything is compared, and what differs is sent. The other way round does not exist:
// nothing flows from the hub to the agent's disk.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, KIB, MIB, protectedCluster, settled, status, write } from './scene.js';
import { spoilReplica } from './spoil.js';

test('a replica that nobody believes is compared in full, and only what differs is sent', async () => {
  const cluster = await protectedCluster({ diskBytes: 8 * MIB });
  await write(cluster, 0, 6 * MIB);
  await settled(cluster);
  await spoilReplica(cluster, 'disk0', 3 * MIB + 5);
  const before = copiedBytes(cluster);
  await cluster.run(cluster.agent?.resync(true, true) ?? Promise.resolve());
  await settled(cluster);
  expect(copiedBytes(cluster) - before).toBe(64 * KIB);
  expect(status(cluster).lastResync?.bytesCompared).toBeGreaterThanOrEqual(6 * MIB);
  await expectEqual(cluster);
});
