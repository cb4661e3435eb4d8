// There: a resync begins while writes are pending; also with protocol A.
// Here: writes are in flight, at every stage between guest and hub, while the link comes back and a span begins, in all modes.
import { expect, test } from 'vitest';
import { MIB, expectEqual, protectedCluster, settled, SMALL_WINDOW, status } from './scene.js';

for (const mode of ['async', 'semi-sync', 'sync'] as const) {
  test(`${mode}: writes in flight when a resync begins end up on both sides`, async () => {
    for (let seed = 1; seed <= 2; seed++) {
      const cluster = await protectedCluster({
        seed,
        diskBytes: 4 * MIB,
        linkLatencyMs: 1 + seed,
        agent: { ...SMALL_WINDOW, mode },
      });
      const before = status(cluster).lastResync?.finishedAt;
      const over = (): boolean => status(cluster).lastResync?.finishedAt !== before;
      const writing = cluster.workUntil(over, 2 * MIB);
      await cluster.clock.advance(200);
      cluster.silenceHub(true);
      await cluster.clock.runUntil(() => status(cluster).counters.pulledAheadBytes > 0);
      await cluster.clock.advance(100 * seed);
      cluster.silenceHub(false);
      await cluster.run(writing, 600_000);
      await settled(cluster);
      expect(over()).toBe(true);
      await expectEqual(cluster);
    }
  });
}
