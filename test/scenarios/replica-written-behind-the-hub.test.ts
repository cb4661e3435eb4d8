// There: who was primary without its peer has a bitmap of what it wrote, and both sides know that they have parted.
// Here: what a VM writes that was booted from a base image, while no hub ran, is in no log. The hub notices by the file, and
// everything is compared; only what differs is sent.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, KIB, MIB, protectedCluster, settled, status, write } from './scene.js';
import { writeReplica } from './spoil.js';

test('a replica that somebody has written while no hub ran is compared in full, and is the disk again', async () => {
  const cluster = await protectedCluster({ diskBytes: 8 * MIB });
  await write(cluster, 0, 6 * MIB);
  await settled(cluster);
  const before = copiedBytes(cluster);
  // In what was written, and in what never was: zeroes cost nothing.
  await writeReplica(cluster, 'disk0', 3 * MIB, Buffer.alloc(5 * KIB, 7));
  await settled(cluster);
  await writeReplica(cluster, 'disk0', 7 * MIB, Buffer.alloc(5 * KIB, 7));
  await settled(cluster);
  expect(status(cluster).lastResync?.cause).toMatch(/^compare-everything/);
  expect(copiedBytes(cluster) - before).toBe(64 * KIB);
  await expectEqual(cluster);
});
