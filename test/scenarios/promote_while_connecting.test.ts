// There: a node is promoted while it is just connecting.
// Here: the guest's first writes come while the agent and the hub shake hands, at every step of it; none of them is missed.
import { test } from 'vitest';
import { expectEqual, KIB, protectedCluster, settled, write } from './scene.js';

test('writes that begin at any moment of a handshake reach the hub', async () => {
  const cluster = await protectedCluster({ linkLatencyMs: 10 });
  for (let moment = 0; moment < 14; moment++) {
    await cluster.stopAgent();
    await cluster.startAgent();
    // Connecting takes 20 ms, Hello and Welcome 20 more, Start and its Ack again 20.
    await cluster.clock.advance(5 * moment);
    await write(cluster, moment * 64 * KIB, 16 * KIB, `at ${moment}`);
    await settled(cluster);
  }
  await expectEqual(cluster);
});
