// There: resyncs are broken off and begun again, several times.
// Here: the hub is killed again and again while it catches up under load.
import { expect, test } from 'vitest';
import { startLoad } from '../kit/load.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const TOUCHED = 16 * MiB;

test('a hub that is killed again and again while it catches up still converges', { timeout: 180_000 }, async () => {
  const scope = testScope();
  const { upstream, hub, agent } = await protectedDisk(scope, 64 * MiB, {
    filled: true,
    agent: { args: ['--window', '4MiB'] },
  });
  const running = await startLoad(scope, agent.uri(), {
    sizeBytes: TOUCHED,
    untilStopped: true,
    ratePerSecond: 800,
  });
  for (let round = 0; round < 4; round += 1) {
    await hub.moreRecords('vm1', 100);
    await hub.child.killHard();
    await agent.waitFor('the agent to notice', ({ agentConnected }) => !agentConnected);
    await hub.start();
  }
  expect((await running.stopped()).errors).toBe(0);
  await agent.waitUntilProtected();
  await expectReplica(scope, upstream.uri, hub);
});
