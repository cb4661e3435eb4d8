// There: a disk is attached again and the device has grown meanwhile; its bitmap must not be lost over that.
// Here: the agent has marks that the hub has not seen, stops, and finds its volume larger: what was marked still reaches the hub.
import { expect, test } from 'vitest';
import { MIB, expectEqual, outage, protectedCluster, settled, SMALL_WINDOW, status, write } from './scene.js';

test('marks of an outage survive that the volume has grown before the next start', async () => {
  const cluster = await protectedCluster({ agent: SMALL_WINDOW });
  await outage(cluster, async () => {
    await write(cluster, 4 * MIB, 3 * MIB, 'in the outage');
    expect(status(cluster).dirtyBytes).toBeGreaterThan(0);
    await cluster.clock.runUntil(() => !status(cluster).agentConnected);
    await cluster.stopAgent();
    const grow = async (): Promise<void> => {
      const file = await cluster.agentHost.files.open('/disk0.raw', 'write');
      await file.truncate(24 * MIB);
      await file.sync();
      await file.close();
    };
    await cluster.run(grow());
    await cluster.startAgent();
  });
  await settled(cluster);
  expect(status(cluster).volumes[0]?.sizeBytes).toBe(24 * MIB);
  await expectEqual(cluster);
});
