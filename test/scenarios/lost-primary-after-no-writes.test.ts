// There: a primary that has not written since it was promoted is lost; nothing may come of that.
// Here: an agent whose guest is idle is killed, or its host loses power: nothing is sent, the line stays.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, MIB, protectedCluster, settled, status, write } from './scene.js';

for (const fate of ['keep', 'lose', 'mixed'] as const) {
  test(`an idle agent that is lost and comes back sends nothing (fate ${fate})`, async () => {
    const cluster = await protectedCluster();
    await write(cluster, 0, 4 * MIB);
    await settled(cluster);
    // The first life: the guest goes idle, and what was hot cools.
    await cluster.clock.runUntil(() => status(cluster).hotExtents === 0);
    const { generation, durableSeq } = status(cluster);
    // The second one has not written at all.
    for (let life = 0; life < 2; life++) {
      cluster.killAgent(fate);
      await cluster.clock.advance(7_000);
      await cluster.startAgent();
      await settled(cluster);
      expect(copiedBytes(cluster)).toBe(0);
      // A power cut may take back that the one extent had cooled: then it is compared.
      expect(status(cluster).lastResync?.bytesCompared ?? 0).toBeLessThanOrEqual(fate === 'keep' ? 0 : 4 * MIB);
      expect(status(cluster).generation).toBe(generation);
      expect(status(cluster).durableSeq).toBeGreaterThanOrEqual(durableSeq);
    }
    await expectEqual(cluster);
  });
}
