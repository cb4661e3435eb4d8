// SUPERSET, SPAN, LINEAGE: the hub is killed hard under load and comes back after a short while: the window is enough.
import { expect, test } from 'vitest';
import { startLoad } from '../kit/load.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const TOUCHED = 16 * MiB;

test('a short outage is resumed from the window, without a resync', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const { upstream, hub, agent } = await protectedDisk(scope, 64 * MiB, { filled: true });
  const before = await agent.status();
  const running = await startLoad(scope, agent.uri(), {
    depth: 16,
    sizeBytes: TOUCHED,
    ratePerSecond: 1000,
    verify: true,
  });
  await hub.moreRecords('vm1', 200);
  await hub.child.killHard();
  await agent.waitFor('the agent to notice', ({ agentConnected }) => !agentConnected);
  await hub.start();
  expect((await running.finished()).errors).toBe(0);
  const after = await agent.waitUntilProtected();
  await expectReplica(scope, upstream.uri, hub);
  expect(after.lastResync).toEqual(before.lastResync);
  expect(after.counters['pulledAheadBytes']).toBe(before.counters['pulledAheadBytes']);
});
