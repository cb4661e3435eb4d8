// There: one volume is declared good by force, and the peer gets all of it, whatever the bitmaps say.
// Here: `resync --full`: everything is sent, and what nobody had noticed at the hub is gone.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, MIB, protectedCluster, settled, status, write } from './scene.js';
import { spoilReplica } from './spoil.js';

test('a full resync on request sends everything, though not one block is marked', async () => {
  const volumes = ['root', 'data'];
  const cluster = await protectedCluster({ diskBytes: 4 * MIB, volumes });
  for (const volume of volumes) await write(cluster, 0, 2 * MIB, volume, volume);
  await settled(cluster);
  await spoilReplica(cluster, 'data', MIB);
  const before = copiedBytes(cluster);
  await cluster.run(cluster.agent?.resync(true) ?? Promise.resolve());
  await settled(cluster);
  expect(copiedBytes(cluster) - before).toBe(4 * MIB);
  expect(status(cluster).lastResync?.cause).toMatch(/^full/);
  await expectEqual(cluster);
});
