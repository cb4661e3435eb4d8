// There: writes go on while a resync is paused, before it has begun.
// Here: `repagent pause`: nothing is sent, everything is marked, also across a restart; `resume` sends all of it.
import { expect, test } from 'vitest';
import {
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

test('what is written while paused follows when mirroring is resumed', async () => {
  const cluster = await protectedCluster({ agent: { ...SMALL_WINDOW, maxBytesPerSecond: 2 * MIB } });
  await outage(cluster, async () => {
    await write(cluster, 0, 5 * MIB, 'in the outage');
  });
  await resyncing(cluster, MIB);
  await cluster.run(cluster.agent?.pause() ?? Promise.resolve());
  await write(cluster, MIB, 3 * MIB, 'while paused');
  expect(status(cluster)).toMatchObject({ state: 'degraded', reason: 'paused' });
  await cluster.stopAgent();
  await cluster.startAgent();
  await cluster.clock.advance(10_000);
  expect(status(cluster)).toMatchObject({ state: 'degraded', agentConnected: false });
  await write(cluster, 8 * MIB, MIB, 'while paused, after a restart');
  await cluster.run(cluster.agent?.resume() ?? Promise.resolve());
  await settled(cluster);
  await expectEqual(cluster);
});
