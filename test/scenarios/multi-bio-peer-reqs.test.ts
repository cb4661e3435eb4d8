// There: a request arrives in so many small pieces that the peer needs several I/Os for it.
// Here: large writes cross a wire that delivers a few odd bytes at a time; the hub puts them together again.
import { test } from 'vitest';
import { expectEqual, KIB, LINK, MIB, protectedCluster, settled, write } from './scene.js';

test('records that arrive in pieces of a few bytes become what they were', async () => {
  const cluster = await protectedCluster({ diskBytes: 4 * MIB });
  const wire = cluster.agentHost.network.conditionsOf(LINK);
  wire.fragmentBytes = () => 1 + Math.floor(cluster.random.fraction() ** 3 * 3_000);
  await write(cluster, 512, MIB);
  await write(cluster, 3 * MIB, 64 * KIB);
  await cluster.work(60);
  await settled(cluster);
  await expectEqual(cluster);
});
