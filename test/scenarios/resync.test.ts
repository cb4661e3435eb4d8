// There: as many data generations as nodes, resynced one after the other, each bitmap good for its own.
// Here: outage after outage, the hub each time at another place of the line; each resync sends its own outage's writes, no more.
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

test('each outage is resynced by its own marks', async () => {
  const cluster = await protectedCluster({ agent: SMALL_WINDOW });
  const { generation } = status(cluster);
  for (let round = 0; round < 5; round++) {
    const before = copiedBytes(cluster);
    await outage(cluster, async () => {
      await write(cluster, (round % 3) * 4 * MIB, 2 * MIB, `round ${round}`);
    });
    await settled(cluster);
    const sent = copiedBytes(cluster) - before;
    expect(sent, `round ${round}`).toBeGreaterThan(0);
    expect(sent, `round ${round}`).toBeLessThanOrEqual(2 * MIB);
    await expectEqual(cluster);
  }
  expect(status(cluster).generation).toBe(generation);
});
