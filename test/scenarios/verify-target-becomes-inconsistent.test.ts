// There: a verification ends although its target becomes inconsistent on the way.
// Here: a verification meets an outage and the resync after it. It ends, and what it could not see it says so of.
import { expect, test } from 'vitest';
import { expectEqual, MIB, outage, protectedCluster, settled, SMALL_WINDOW, status, write } from './scene.js';

test('a verification that a resync comes over ends, and calls nothing different that is not', async () => {
  const cluster = await protectedCluster({ agent: { ...SMALL_WINDOW, verifyBytesPerSecond: 2 * MIB } });
  await write(cluster, 0, 16 * MIB);
  await settled(cluster);
  cluster.agent?.verify();
  await cluster.clock.runUntil(() => (status(cluster).verify?.bytesSame ?? 0) > 2 * MIB);
  await outage(cluster, async () => {
    await write(cluster, 8 * MIB, 6 * MIB, 'in the outage');
  });
  await cluster.clock.runUntil(() => status(cluster).verify?.finishedAt !== null, 600_000);
  const { verify } = status(cluster);
  expect(verify?.bytesDiffer).toBe(0);
  expect((verify?.bytesSame ?? 0) + (verify?.bytesUnknown ?? 0)).toBe(16 * MIB);
  await settled(cluster);
  await expectEqual(cluster);
});
