// There: the network breaks while two nodes agree to connect.
// Here: the link is cut within every frame of the handshake, in either direction, while the guest writes; the sides agree at
// last, and nothing is resynced that the window still holds.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, KIB, protectedCluster, settled, status, write } from './scene.js';

test('cut at any byte of the handshake, they agree the next time', async () => {
  const cluster = await protectedCluster({ linkLatencyMs: 1 });
  const before = copiedBytes(cluster);
  const { network } = cluster.agentHost;
  for (const direction of ['to-server', 'to-client'] as const) {
    for (const bytes of [1, 87, 88, 89, 200, 330, 480, 620, 700, 800]) {
      network.onLink = (link) => {
        if (link.address.includes('9010')) link.cutAfter(direction, bytes);
      };
      cluster.cutLink();
      await write(cluster, bytes * 4 * KIB, 8 * KIB, `${direction} ${bytes}`);
      await cluster.clock.advance(2_000);
      network.onLink = null;
      cluster.cutLink();
      await settled(cluster);
      expect(status(cluster).hub?.lastVerdict, `${direction} ${bytes}`).toBe('L16-resume');
    }
  }
  expect(copiedBytes(cluster)).toBe(before);
  await expectEqual(cluster);
});
