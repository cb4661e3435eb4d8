// There: a generation of data the peer lacks, and a resync of it under heavy application I/O.
// Here: the hub is killed hard under load and comes back under load; only what changed is sent (SUPERSET, SPAN, LINEAGE).
import { expect, test } from 'vitest';
import { startLoad } from '../kit/load.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const DISK = 128 * MiB;
const TOUCHED = 16 * MiB;

test(
  'a long outage: writes of the outage are resynced, not the disk, and the disks are equal',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    // A window of 4 MiB is full after a thousand writes: then the agent pulls ahead to its bitmap.
    const { upstream, hub, agent } = await protectedDisk(scope, DISK, {
      filled: true,
      agent: { args: ['--window', '4MiB'] },
    });
    const before = await hub.status('vm1');
    const running = await startLoad(scope, agent.uri(), {
      depth: 16,
      sizeBytes: TOUCHED,
      offsetBytes: 32 * MiB,
      ratePerSecond: 1000,
      verify: true,
    });
    await hub.moreRecords('vm1', 200);
    await hub.child.killHard();
    await agent.waitFor(
      'the agent to pull ahead',
      ({ agentConnected, dirtyBytes }) => !agentConnected && dirtyBytes > 0,
    );
    await hub.start();
    expect((await running.finished()).errors).toBe(0);
    const after = await agent.waitUntilProtected();
    await expectReplica(scope, upstream.uri, hub);
    expect(after.lastResync).not.toEqual(before.lastResync);
    expect(after.lastResync?.bytesSent).toBeGreaterThan(0);
    // Where a slow hub fills the window during the resync too, what the guest writes then is sent once more.
    expect(after.lastResync?.bytesSent).toBeLessThanOrEqual(DISK / 2);
    expect(after.generation).toBe(before.generation);
  },
);
