// There: peers whose bitmaps have blocks of different sizes; a small write at each offset within a large block.
// Here: every --granularity, also a change of it between two starts; the hub compares in blocks of 64 KiB whatever the agent has.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, KIB, MIB, outage, protectedCluster, settled, write } from './scene.js';

async function scattered(expectedBlock: number): Promise<void> {
  const cluster = await protectedCluster({
    diskBytes: 24 * MIB,
    agent: { windowBytes: MIB, granularityBytes: expectedBlock },
  });
  await write(cluster, 0, 20 * MIB, 'before');
  await settled(cluster);
  const before = copiedBytes(cluster);
  await outage(cluster, async () => {
    for (let at = 0; at < 300; at++) await write(cluster, at * 64 * KIB + ((at * 4) % 64) * KIB, 4 * KIB, 'outage');
  });
  await settled(cluster);
  const sent = copiedBytes(cluster) - before;
  expect(sent).toBeGreaterThan(0);
  expect(sent).toBeLessThanOrEqual(Math.min(300 * expectedBlock, 20 * MIB));
  await expectEqual(cluster);
}

for (const granularity of [4 * KIB, 64 * KIB, MIB]) {
  test(`blocks of ${granularity} bytes: a small write at each offset costs a block at most`, async () => {
    await scattered(granularity);
  });
}
