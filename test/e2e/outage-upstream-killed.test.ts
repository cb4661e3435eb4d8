// OUTAGE, REPLAY: upstream dies and returns under load; the guest's connection stays open and nothing is lost.
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { startLoad } from '../kit/load.js';
import { qemuNbd } from '../kit/peers.js';
import { compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('an upstream that vanishes and returns costs the guest only time', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, 32 * MiB);
  const upstream = await qemuNbd(scope, file);
  const { hub, agent } = await startSystem(scope, upstream.uri, {
    agent: { args: ['--retries', 'forever', '--retry-delay', '100ms'] },
  });
  const { seq } = await hub.status('vm1');
  const running = await startLoad(scope, agent.uri(), {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 8,
    sizeBytes: 16 * MiB,
    ratePerSecond: 1500,
    verify: true,
  });
  let server = upstream;
  for (const more of [200, 400, 600]) {
    await hub.waitFor('vm1', 'some writes to arrive', (status) => status.seq > seq + more);
    await server.child.killHard();
    server = await qemuNbd(scope, file, { at: upstream.address });
  }
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
});
