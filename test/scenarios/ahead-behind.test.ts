// There: a link too slow for the writes; the primary goes ahead without the peer, which is behind, and resyncs later.
// Here: the window is full, so writes are only marked (pull-ahead); the guest never waits for the link; what was marked is
// sent when the window has drained.
import { expect, test } from 'vitest';
import { drip } from '@rephub/platform/sim';
import { LINK, MIB, expectEqual, protectedCluster, settled, SMALL_WINDOW, status, write } from './scene.js';

test('a guest that is faster than its link is not held up; what it wrote follows, and then all is streamed again', async () => {
  const cluster = await protectedCluster({ diskBytes: 20 * MIB, agent: { ...SMALL_WINDOW, compress: 'off' } });
  const wire = cluster.agentHost.network.conditionsOf(LINK);
  // 10 Mbit/s, as there.
  drip(wire, 1250);
  const begunMs = cluster.clock.monotonicMs();
  await write(cluster, 0, 8 * MIB);
  const tookMs = cluster.clock.monotonicMs() - begunMs;
  expect(tookMs).toBeLessThan(1_000);
  expect(status(cluster)).toMatchObject({ state: 'catching-up', agentConnected: true });
  expect(status(cluster).counters.pulledAheadBytes).toBeGreaterThan(4 * MIB);
  expect(status(cluster).windowBytes).toBeLessThanOrEqual(MIB);
  await settled(cluster);
  // The link needs more than six seconds for it.
  expect(cluster.clock.monotonicMs() - begunMs).toBeGreaterThan(6_000);
  expect(status(cluster).lastResync?.cause).toContain('pulled-ahead');
  await expectEqual(cluster);
  const { records } = status(cluster).counters;
  await write(cluster, 16 * MIB, 128 * 1024);
  await settled(cluster);
  expect(status(cluster).counters.records).toBe(records + 2);
  await expectEqual(cluster);
});
