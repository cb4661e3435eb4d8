// SUPERSET, SPAN, LINEAGE: the hub is killed hard under load and comes back; only what changed is sent again.
import { expect, test } from 'vitest';
import { startLoad } from '../kit/load.js';
import { filledDisk } from '../kit/filled-disk.js';
import { qemuNbd } from '../kit/peers.js';
import { compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const TOUCHED = 16 * MiB;

test(
  'a long outage: writes of the outage are resynced, no more, and the disks are equal',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const upstream = await qemuNbd(scope, await filledDisk(scope, 128 * MiB));
    // A window of 4 MiB is full after a thousand writes: then the agent pulls ahead to its bitmap.
    const { hub, agent } = await startSystem(scope, upstream.uri, { agent: { args: ['--window', '4MiB'] } });
    const before = await hub.status('vm1');
    const running = await startLoad(scope, agent.uri(), {
      pattern: 'randwrite',
      blockBytes: 4096,
      depth: 16,
      sizeBytes: TOUCHED,
      offsetBytes: 32 * MiB,
      ratePerSecond: 1000,
      verify: true,
    });
    await hub.waitFor('vm1', 'some writes to arrive', ({ seq }) => seq > before.seq + 200);
    await hub.child.killHard();
    await agent.waitFor(
      'the agent to pull ahead',
      ({ agentConnected, dirtyBytes }) => !agentConnected && dirtyBytes > 0,
    );
    await hub.start();
    expect((await running.finished()).errors).toBe(0);
    const after = await agent.waitUntilProtected();
    expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
    expect(after.lastResync).not.toEqual(before.lastResync);
    expect(after.lastResync?.bytesSent).toBeGreaterThan(0);
    expect(after.lastResync?.bytesSent).toBeLessThanOrEqual(TOUCHED);
    expect(after.generation).toBe(before.generation);
  },
);

test('a short outage is resumed from the window, without a resync', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const upstream = await qemuNbd(scope, await filledDisk(scope, 64 * MiB));
  const { hub, agent } = await startSystem(scope, upstream.uri);
  const before = await agent.status();
  const running = await startLoad(scope, agent.uri(), {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 16,
    sizeBytes: TOUCHED,
    ratePerSecond: 1000,
    verify: true,
  });
  await hub.waitFor('vm1', 'some writes to arrive', ({ seq }) => seq > before.seq + 200);
  await hub.child.killHard();
  await agent.waitFor('the agent to notice', ({ agentConnected }) => !agentConnected);
  await hub.start();
  expect((await running.finished()).errors).toBe(0);
  const after = await agent.waitUntilProtected();
  expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
  expect(after.lastResync).toEqual(before.lastResync);
  expect(after.counters['pulledAheadBytes']).toBe(before.counters['pulledAheadBytes']);
});

test('a hub that is killed again and again while it catches up still converges', { timeout: 180_000 }, async () => {
  const scope = testScope();
  const upstream = await qemuNbd(scope, await filledDisk(scope, 64 * MiB));
  const { hub, agent } = await startSystem(scope, upstream.uri, { agent: { args: ['--window', '4MiB'] } });
  const running = await startLoad(scope, agent.uri(), {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 8,
    sizeBytes: TOUCHED,
    seconds: 8,
    ratePerSecond: 800,
  });
  for (let round = 0; round < 4; round += 1) {
    const { seq } = await hub.status('vm1');
    await hub.waitFor('vm1', 'writes to arrive', (status) => status.seq > seq + 100);
    await hub.child.killHard();
    await agent.waitFor('the agent to notice', ({ agentConnected }) => !agentConnected);
    await hub.start();
  }
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
});
