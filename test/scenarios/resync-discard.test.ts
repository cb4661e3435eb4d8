// There: a resync over what was discarded must not leave the target's thin disk fully allocated.
// Here: what was trimmed during an outage is sent as a hole, and the replica gives the room back.
import { trimRange } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, MIB, outage, protectedCluster, settled, SMALL_WINDOW, write } from './scene.js';

test('a trim of an outage costs nothing on the link and frees the room at the hub', async () => {
  const cluster = await protectedCluster({ agent: SMALL_WINDOW });
  await write(cluster, 0, 10 * MIB);
  await settled(cluster);
  const before = copiedBytes(cluster);
  await outage(cluster, async () => {
    // Fills the window, so that the trim is only marked.
    await write(cluster, 12 * MIB, 2 * MIB);
    await cluster.run(trimRange(await cluster.guest('disk0'), 2 * MIB, 6 * MIB));
  });
  await settled(cluster);
  expect(copiedBytes(cluster) - before).toBeLessThanOrEqual(2 * MIB);
  await expectEqual(cluster);
  await cluster.stopAgent();
  await cluster.stopHub(true);
  const data = [...(cluster.hubFiles.seen('/data/groups/vm1/base/disk0.raw')?.data() ?? [])];
  const allocated = data.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  expect(allocated).toBeLessThanOrEqual(6 * MIB);
});
