// There: during a resync neighbouring discards are merged into few large ones.
// Here: neighbouring zero blocks of a resync are merged into few records, far fewer than there are blocks.
import { zeroRange } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { expectEqual, KIB, MIB, outage, protectedCluster, settled, SMALL_WINDOW, status, write } from './scene.js';

test('a resync of zeroes makes few records', async () => {
  const cluster = await protectedCluster({ diskBytes: 20 * MIB, agent: SMALL_WINDOW });
  await write(cluster, 0, 16 * MIB);
  await settled(cluster);
  let { records } = status(cluster).counters;
  await outage(cluster, async () => {
    await write(cluster, 16 * MIB, 2 * MIB);
    const client = await cluster.guest('disk0');
    // One request for each block: nothing tells the agent that they belong together.
    for (let at = 0; at < 16 * MIB; at += 64 * KIB) await cluster.run(zeroRange(client, at, 64 * KIB));
    ({ records } = status(cluster).counters);
  });
  await settled(cluster);
  // 256 blocks of zeroes, read a megabyte at a time, and the rest of two megabytes of data.
  expect(status(cluster).counters.records - records).toBeLessThan(100);
  await expectEqual(cluster);
});
