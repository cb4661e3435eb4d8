// There: two paths to a peer; when one is lost the other is taken.
// Here: --hub may be given more than once; whichever answers is taken, and writes made meanwhile are resumed from the window.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, KIB, MIB, protectedCluster, settled, status, write } from './scene.js';

test('the second address is taken when the first is dead, whenever that happens', async () => {
  const hubs = ['tcp://127.0.0.1:9009', 'tcp://127.0.0.1:9010'];
  const cluster = await protectedCluster({ agent: { hubs } });
  expect(status(cluster).hub?.connectedTo).toBe(hubs[1]);
  const before = copiedBytes(cluster);
  for (let round = 0; round < 3; round++) {
    await write(cluster, round * MIB, 64 * KIB);
    cluster.cutLink();
    await write(cluster, (4 + round) * MIB, 64 * KIB);
    await settled(cluster);
    expect(status(cluster).hub?.connectedTo).toBe(hubs[1]);
  }
  expect(copiedBytes(cluster)).toBe(before);
  await expectEqual(cluster);
});
