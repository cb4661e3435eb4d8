// SUPERSET, NOFULL: the agent is killed hard under load; its client, a QEMU with reconnect-delay, only waits; at most the
// hot extents are sent again.
import { expect, test } from 'vitest';
import { startLoad } from '../kit/load.js';
import { expectReplica } from '../kit/expectations.js';
import { patientGuest, protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const TOUCHED = 16 * MiB;
const EXTENT = 4 * MiB;

test(
  'killed and restarted once: the guest sees no error, the resync is bounded, the disks are equal',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { upstream, hub, agent } = await protectedDisk(scope, 128 * MiB, { filled: true });
    const before = await hub.status('vm1');
    const guest = await patientGuest(scope, agent);
    const running = await startLoad(scope, guest.uri, {
      depth: 16,
      sizeBytes: TOUCHED,
      offsetBytes: 32 * MiB,
      ratePerSecond: 1000,
      verify: true,
    });
    await hub.moreRecords('vm1', 200);
    await agent.child.killHard();
    await hub.waitFor('vm1', 'the hub to notice', ({ agentConnected }) => !agentConnected);
    await agent.start();
    expect((await running.finished()).errors).toBe(0);
    const after = await agent.waitUntilProtected();
    await guest.child.stop();
    await expectReplica(scope, upstream.uri, hub);
    expect(after.lastResync?.finishedAt).not.toBe(before.lastResync?.finishedAt);
    // fio starts at an extent's edge; what was hot is what it touched, the file system's size is eight times that.
    // What differs is both compared and sent: each by itself is bounded.
    expect(after.lastResync?.bytesSent).toBeLessThanOrEqual(TOUCHED + EXTENT);
    expect(after.lastResync?.bytesCompared).toBeLessThanOrEqual(TOUCHED + EXTENT);
    expect(after.generation).toBe(before.generation);
  },
);

test('killed again while it resyncs: marks of both runs hold', { timeout: 180_000 }, async () => {
  const scope = testScope();
  const { upstream, hub, agent } = await protectedDisk(scope, 64 * MiB, { filled: true });
  const guest = await patientGuest(scope, agent);
  const running = await startLoad(scope, guest.uri, {
    sizeBytes: TOUCHED,
    untilStopped: true,
    ratePerSecond: 800,
  });
  for (let round = 0; round < 3; round += 1) {
    await hub.moreRecords('vm1', 50);
    await agent.child.killHard();
    await agent.start();
  }
  expect((await running.stopped()).errors).toBe(0);
  await agent.waitUntilProtected();
  await guest.child.stop();
  await expectReplica(scope, upstream.uri, hub);
});

test('stopped in order and started again: nothing is sent again', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { upstream, hub, agent } = await protectedDisk(scope, 32 * MiB, { filled: true });
  const guest = await patientGuest(scope, agent);
  const first = await startLoad(scope, guest.uri, {
    sizeBytes: 4 * MiB,
  });
  await first.finished();
  const before = await agent.waitUntilProtected();
  await guest.child.stop();
  expect(await agent.child.stop()).toEqual({ code: 0, signal: null });
  await agent.start();
  const after = await agent.waitUntilProtected();
  expect(after.counters['copiedBytes']).toBe(0);
  expect(after.durableSeq).toBeGreaterThanOrEqual(before.durableSeq);
  await expectReplica(scope, upstream.uri, hub);
});
