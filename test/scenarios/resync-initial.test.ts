// There: a peer joins a primary that is in use, and its first sync ends while the primary goes on.
// Here: the hub is started long after the agent, the guest writing all the while; the first sync ends.
import { expect, test } from 'vitest';
import { Cluster } from '../sim/cluster.js';
import { expectEqual, MIB, settled, SMALL_WINDOW, status, write } from './scene.js';

test('a hub that comes late gets a first sync while the guest writes', async () => {
  const cluster = new Cluster({ seed: 5, diskBytes: 16 * MIB, agent: { ...SMALL_WINDOW, maxBytesPerSecond: 8 * MIB } });
  await cluster.makeDisks();
  await cluster.startAgent();
  await write(cluster, 0, 12 * MIB, 'before');
  expect(status(cluster)).toMatchObject({ state: 'unprotected' });
  const writing = cluster.workUntil(() => status(cluster).lastResync !== null, 4 * MIB);
  await cluster.clock.advance(3_000);
  await cluster.startHub();
  await cluster.run(writing, 600_000);
  expect(status(cluster).lastResync?.cause).toBe('first sync');
  await settled(cluster);
  await expectEqual(cluster);
});
