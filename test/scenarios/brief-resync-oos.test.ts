// There: a resync with almost nothing to send must not end before writes that were only marked (out of sync) have been seen.
// Here: a span with one dirty block, and guest writes at every moment around its beginning and its end.
import { test } from 'vitest';
import { KIB, MIB, expectEqual, outage, protectedCluster, settled, SMALL_WINDOW, status, write } from './scene.js';

test('a write at any moment of a resync of one block is not lost', async () => {
  const cluster = await protectedCluster({ diskBytes: 10 * MIB, agent: SMALL_WINDOW, linkLatencyMs: 2 });
  for (let moment = 0; moment < 16; moment++) {
    await outage(cluster, async () => {
      // The window fills, and one block stays marked.
      for (let at = 0; at < 20; at++) await write(cluster, 8 * MIB, 64 * KIB, `round ${moment}, ${at}`);
    });
    await cluster.clock.runUntil(() => status(cluster).agentConnected);
    await cluster.clock.advance(moment * 1.5);
    await Promise.all([
      write(cluster, 8 * MIB + 4 * KIB, 4 * KIB, `over it ${moment}`),
      write(cluster, 2 * MIB + moment * 64 * KIB, 64 * KIB, `beside it ${moment}`),
    ]);
    await settled(cluster);
    if (moment % 4 === 3) await expectEqual(cluster);
  }
});
