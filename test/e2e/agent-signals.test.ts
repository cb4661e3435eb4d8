// SIGTERM: requests in flight are answered, upstream flushed, state saved clean, exit 0; upstream away: exit 1, state unclean.
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { startLoad } from '../kit/load.js';
import { qemuNbd, qemuPassThrough } from '../kit/peers.js';
import { compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test(
  'stopped under load: exit 0 within 10 s, and nothing is compared or sent twice afterwards',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const upstream = await qemuNbd(scope, await filledDisk(scope, 64 * MiB));
    const { hub, agent } = await startSystem(scope, upstream.uri);
    const guest = await qemuPassThrough(scope, agent.address, { reconnectDelaySeconds: 60 });
    const { seq } = await hub.status('vm1');
    const running = await startLoad(scope, guest.uri, {
      pattern: 'randwrite',
      blockBytes: 4096,
      depth: 8,
      sizeBytes: 16 * MiB,
      ratePerSecond: 1000,
      verify: true,
    });
    await hub.waitFor('vm1', 'some writes to arrive', (status) => status.seq > seq + 200);
    const asked = performance.now();
    agent.child.signal('SIGTERM');
    expect(await agent.child.waitForExit(15_000)).toEqual({ code: 0, signal: null });
    expect(performance.now() - asked).toBeLessThan(10_000);
    await agent.start();
    expect((await running.finished()).errors).toBe(0);
    const after = await agent.waitUntilProtected();
    await guest.child.stop();
    expect(after.counters['copiedBytes']).toBe(0);
    expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
  },
);

test('stopped while upstream is away: exit 1, and the next start resyncs', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, 32 * MiB);
  const upstream = await qemuNbd(scope, file);
  const { hub, agent } = await startSystem(scope, upstream.uri);
  const guest = await qemuPassThrough(scope, agent.address, { reconnectDelaySeconds: 60 });
  const running = await startLoad(scope, guest.uri, {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 8,
    sizeBytes: 8 * MiB,
    ratePerSecond: 1000,
  });
  const { seq } = await hub.status('vm1');
  await hub.waitFor('vm1', 'some writes to arrive', (status) => status.seq > seq + 100);
  await upstream.child.killHard();
  await agent.child.waitForOutput(/upstream.*(lost|down|reconnect|away|closed)/is);
  agent.child.signal('SIGTERM');
  expect((await agent.child.waitForExit(15_000)).code).toBe(1);
  await qemuNbd(scope, file, { at: upstream.address });
  await agent.start();
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  await guest.child.stop();
  expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
});
