// OUTAGE, REPLAY: upstream dies and returns under load; the guest's connection stays open and nothing is lost.
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { startLoad } from '../kit/load.js';
import { qemuNbd } from '../kit/peers.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedFile } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('an upstream that vanishes and returns costs the guest only time', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, 32 * MiB);
  const { upstream, hub, agent } = await protectedFile(scope, file, {
    agent: { args: ['--retries', 'forever', '--retry-delay', '100ms'] },
  });
  const running = await startLoad(scope, agent.uri(), {
    sizeBytes: 16 * MiB,
    ratePerSecond: 1500,
    verify: true,
  });
  const before = await hub.status('vm1');
  let server = upstream;
  for (let round = 1; round <= 3; round += 1) {
    // Counted from the start: a test that was held up finds that they are there already.
    await hub.waitFor('vm1', `${round * 400} records`, ({ seq }) => seq > before.seq + round * 400);
    await server.child.killHard();
    server = await qemuNbd(scope, file, { at: upstream.address });
  }
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  await expectReplica(scope, upstream.uri, hub);
});
