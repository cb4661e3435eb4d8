// There: requests that are not aligned, zeroings and discards of odd sizes, with and without the peer.
// Here: the same through the agent, with the hub and without; both sides read alike afterwards.
import { trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { test } from 'vitest';
import { type Cluster } from '../sim/cluster.js';
import { expectEqual, KIB, MIB, outage, protectedCluster, settled, SMALL_WINDOW, write } from './scene.js';

const SIZES = [1, 7, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_537, 300_001];

async function unusual(cluster: Cluster, fromBytes: number): Promise<void> {
  const client = await cluster.guest('disk0');
  let at = fromBytes + 3;
  for (const length of SIZES) {
    await cluster.run(writeBytes(client, at, Buffer.alloc(length, `${length} bytes at ${at};`), false));
    await cluster.run(zeroRange(client, at + 1, Math.ceil(length / 2)));
    await cluster.run(trimRange(client, at + Math.floor(length / 2), Math.ceil(length / 3)));
    at += length + 777;
  }
}

test('odd offsets and lengths end up alike on both sides, with the hub there and without', async () => {
  const cluster = await protectedCluster({ diskBytes: 8 * MIB, agent: SMALL_WINDOW });
  await write(cluster, 0, 8 * MIB, 'before');
  await settled(cluster);
  await unusual(cluster, 0);
  await settled(cluster);
  await expectEqual(cluster);
  await outage(cluster, async () => {
    await write(cluster, 6 * MIB, MIB + 64 * KIB, 'the window is full');
    await unusual(cluster, 2 * MIB);
  });
  await settled(cluster);
  await expectEqual(cluster);
});
