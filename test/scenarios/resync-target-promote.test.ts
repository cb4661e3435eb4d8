// There: the target of a resync is promoted while it is not consistent.
// Here: a failover test is opened while a resync runs. It shows the last good point, to the byte, and writes to it harm nothing.
import { connectNbd, readBytes, writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import {
  KIB,
  expectEqual,
  MIB,
  outage,
  protectedCluster,
  resyncing,
  settled,
  SMALL_WINDOW,
  status,
  write,
} from './scene.js';

test('a test opened in the middle of a resync begins with the point before it', async () => {
  const cluster = await protectedCluster({
    diskBytes: 8 * MIB,
    agent: { ...SMALL_WINDOW, maxBytesPerSecond: MIB },
  });
  await write(cluster, 0, 8 * MIB, 'good');
  await settled(cluster);
  await outage(cluster, async () => {
    // The window holds the first megabyte, which makes the last good point a little better.
    await write(cluster, 0, 2 * MIB, 'window');
    await write(cluster, 2 * MIB, 4 * MIB, 'later');
  });
  await resyncing(cluster, 2 * MIB);
  const before = await cluster.replica('disk0');
  const group = cluster.hub?.hub.group('vm1');
  await cluster.run(
    group?.openTest({ name: 'drill', leaseMs: null, scratchBytes: 8 * MIB }) ?? Promise.reject(new Error('no group')),
  );
  const drill = await cluster.run(connectNbd(cluster.agentHost, 'nbd+unix:///vm1%2Fdisk0!drill?socket=/run/hub.sock'));
  expect(Buffer.compare(await cluster.run(readBytes(drill, 0, 8 * MIB)), before)).toBe(0);
  expect(before.subarray(6 * MIB - 64 * KIB, 6 * MIB).toString()).toMatch(/^good/);
  await cluster.run(writeBytes(drill, 5 * MIB, Buffer.alloc(MIB, 'of the drill'), false));
  expect(status(cluster).state).toBe('catching-up');
  await settled(cluster);
  const mine = await cluster.run(readBytes(drill, 5 * MIB, 12));
  expect(mine.toString()).toBe('of the drill');
  await expectEqual(cluster);
});
