// There: discards are offered in the granularity that the disk has.
// Here: trims come as the guest sends them, however crooked; what they touch reads alike on both sides, and whole blocks that
// were trimmed take no room in the replica.
import { trimRange } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { expectEqual, KIB, MIB, protectedCluster, settled, write } from './scene.js';

test('crooked trims leave both sides alike; a whole trimmed range is a hole at the hub', async () => {
  const cluster = await protectedCluster();
  await write(cluster, 0, 8 * MIB);
  await settled(cluster);
  const client = await cluster.guest('disk0');
  for (const [offset, length] of [
    [1, 511],
    [4095, 2],
    [64 * KIB - 512, 64 * KIB],
    [128 * KIB + 512, 12 * KIB],
    [MIB + 7, 3 * MIB],
    [5 * MIB, 2 * MIB],
    [8 * MIB - 100, 200],
  ] as const) {
    await cluster.run(trimRange(client, offset, length));
    await settled(cluster);
    await expectEqual(cluster);
  }
  await cluster.stopAgent();
  await cluster.stopHub(true);
  expect(Buffer.compare(await cluster.base('disk0'), await cluster.upstream('disk0'))).toBe(0);
  const inHole = [...(cluster.hubFiles.seen('/data/groups/vm1/base/disk0.raw')?.data() ?? [])].filter(
    ({ position, lengthBytes }) => position < 7 * MIB && position + lengthBytes > 5 * MIB,
  );
  expect(inHole).toEqual([]);
});
