// There: a node is made anew, empty, under its old name.
// Here: the hub has lost its data directory. It is another hub then, knows nothing of the group, and gets all of it (L2).
import { expect, test } from 'vitest';
import { SimFiles } from '@rephub/platform/sim';
import { copiedBytes, expectEqual, MIB, protectedCluster, settled, status, write } from './scene.js';

test('a hub that comes back empty is noticed and filled again, holes left out', async () => {
  const cluster = await protectedCluster();
  await write(cluster, 2 * MIB, 3 * MIB);
  await settled(cluster);
  const before = copiedBytes(cluster);
  cluster.killHub('keep');
  await cluster.clock.runUntil(() => !status(cluster).agentConnected);
  cluster.hubFiles = new SimFiles({ clock: cluster.clock });
  await cluster.startHub();
  await settled(cluster);
  expect(status(cluster).hub?.lastVerdict).toBe('L2-unknown-known');
  expect(copiedBytes(cluster) - before).toBe(3 * MIB);
  await expectEqual(cluster);
});
