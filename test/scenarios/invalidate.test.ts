// There: one side's data is declared void, and comes anew from the other.
// Here: the hub's, by `resync --compare`: everything is compared, and what differs is sent. The other way round does not exist:
// nothing flows from the hub to the agent's disk.
import { expect, test } from 'vitest';
import {
  copiedBytes,
  expectEqual,
  KIB,
  MIB,
  outage,
  protectedCluster,
  resyncing,
  settled,
  status,
  write,
} from './scene.js';
import { spoilReplica, writeReplica } from './spoil.js';

test('a replica that nobody believes is compared in full, and only what differs is sent', async () => {
  const cluster = await protectedCluster({ diskBytes: 8 * MIB });
  await write(cluster, 0, 6 * MIB);
  await settled(cluster);
  await spoilReplica(cluster, 'disk0', 3 * MIB + 5);
  const before = copiedBytes(cluster);
  await cluster.run(cluster.agent?.resync(true, true) ?? Promise.resolve());
  await settled(cluster);
  expect(copiedBytes(cluster) - before).toBe(64 * KIB);
  expect(status(cluster).lastResync?.bytesCompared).toBeGreaterThanOrEqual(6 * MIB);
  await expectEqual(cluster);
});

test('a comparison that is ordered while all is being compared anyway sends no more than one: what was asked meanwhile is asked again', async () => {
  const cluster = await protectedCluster({ diskBytes: 32 * MIB });
  await write(cluster, 0, 30 * MIB);
  await settled(cluster);
  const before = copiedBytes(cluster);
  await writeReplica(cluster, 'disk0', 29 * MIB, Buffer.alloc(5 * KIB, 7));
  await resyncing(cluster, 2 * MIB);
  expect(status(cluster).resync?.cause).toMatch(/^compare-everything/);
  await cluster.run(cluster.agent?.resync(true, true) ?? Promise.resolve());
  await settled(cluster);
  expect(copiedBytes(cluster) - before).toBe(64 * KIB);
  await expectEqual(cluster);
});

test('a comparison whose link is cut waits for the hub, and sends no more than what differs', async () => {
  const cluster = await protectedCluster({ diskBytes: 32 * MIB });
  await write(cluster, 0, 30 * MIB);
  await settled(cluster);
  const before = copiedBytes(cluster);
  await cluster.run(cluster.agent?.resync(true, true) ?? Promise.resolve());
  await resyncing(cluster, 2 * MIB);
  await outage(cluster, () => cluster.clock.advance(10_000));
  await settled(cluster);
  expect(copiedBytes(cluster) - before).toBe(0);
  await expectEqual(cluster);
});
