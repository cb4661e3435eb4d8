// RPO, FULL: from the moment when a hub's disk is full on, no status says that nothing is behind.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { must } from '../kit/process.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { leaveFree, smallDisk } from '../kit/small-disk.js';
import { type GroupStatus } from '../kit/status.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const MiB = 1 << 20;

test(
  'what waits for room counts as lag, and its age as RPO, before the agent has told of it',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await smallDisk(scope, 300 * MiB);
    const { hub, agent } = await protectedDisk(scope, 64 * MiB, {
      hub: { dataDir: join(disk, 'data'), args: ['--reserve', '32MiB'] },
    });
    await hub.waitFor('vm1', 'protection', ({ state }) => state === 'protected');
    await leaveFree(disk, 0);
    // Right after a beat that told of nothing: the next one waits in the socket behind what the hub cannot take.
    const writing = must('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 60M', agent.uri()]);
    const seen: GroupStatus[] = [];
    await waitUntil(
      'the hub to know nothing of the lag any more',
      async () => {
        const status = await hub.status('vm1');
        if (status.reason === 'disk-full') seen.push(status);
        return seen.at(-1)?.rpoSeconds === null;
      },
      { timeoutMs: 60_000, intervalMs: 5 },
    );
    await writing;
    expect(seen.length).toBeGreaterThan(1);
    const good = seen.filter(({ rpoSeconds, lagBytes }) => rpoSeconds === 0 || lagBytes === 0);
    expect(
      good.map(({ rpoSeconds, lagBytes, seq, durableSeq }) => ({ rpoSeconds, lagBytes, seq, durableSeq })),
    ).toEqual([]);
    expect((await agent.status()).lagBytes).toBeGreaterThan(0);
    const metrics = await (await fetch(`http://${hub.http}/metrics`)).text();
    expect(metrics).not.toMatch(/rephub_group_(lag_bytes|rpo_seconds)\{group="vm1"\} 0$/m);
  },
);
