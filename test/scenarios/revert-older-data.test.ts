// There: the secondary is put back to an older snapshot, metadata included; that must end in a resync, whatever happened since.
// Here: the hub's data is restored from a backup. The agent knows what was once durable, and believes nothing (L9, L10):
// everything is compared, and what the backup lacks is sent.
import { expect, test } from 'vitest';
import {
  copiedBytes,
  expectEqual,
  MIB,
  outage,
  protectedCluster,
  settled,
  SMALL_WINDOW,
  status,
  write,
} from './scene.js';

for (const generations of [1, 2]) {
  test(`a hub put back by ${generations} resync(s) is noticed and made equal`, async () => {
    const cluster = await protectedCluster({ agent: SMALL_WINDOW });
    await write(cluster, 0, 8 * MIB, 'old');
    await settled(cluster);
    await cluster.stopHub(false);
    const backup = cluster.hubFiles.snapshot('/data');
    await cluster.startHub();
    await settled(cluster);
    for (let round = 0; round < generations; round++) {
      await outage(cluster, async () => {
        await write(cluster, round * 2 * MIB, 2 * MIB, `round ${round}`);
      });
      await settled(cluster);
    }
    await cluster.stopHub(false);
    cluster.hubFiles.restore('/data', backup);
    const before = copiedBytes(cluster);
    await cluster.startHub();
    await settled(cluster);
    expect(status(cluster).hub?.lastVerdict).toMatch(/^L(9-hub-older|10-hub-lost-durable)$/);
    const sent = copiedBytes(cluster) - before;
    expect(sent).toBeGreaterThanOrEqual(generations * 2 * MIB);
    expect(sent).toBeLessThanOrEqual(generations * 2 * MIB + MIB);
    await expectEqual(cluster);
  });
}
