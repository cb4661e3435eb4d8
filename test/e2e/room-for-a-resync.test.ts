// LASTGOOD, FULL: a resync that does not fit beside the last good point is refused, and said; the operator may give the point up.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { compareFiles, copyOf } from '../kit/contents.js';
import { load } from '../kit/load.js';
import { leaveFree, smallDisk } from '../kit/small-disk.js';
import { expectReplica, expectSame } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test(
  'no room for a full resync: refused and said; given the last good point, it goes on',
  { timeout: 240_000 },
  async () => {
    const scope = testScope();
    const disk = await smallDisk(scope, 700 * MiB);
    const { upstream, hub, agent } = await protectedDisk(scope, 160 * MiB, {
      filled: true,
      hub: { dataDir: join(disk, 'data'), args: ['--retention', '0', '--reserve', '32MiB'] },
      agent: { args: ['--window', '8MiB'] },
    });
    await hub.waitFor('vm1', 'the first sync to be applied', (status) => status.state === 'protected');
    const lastGood = await copyOf(scope, hub.uri('vm1', 'disk0'));
    await leaveFree(disk, 152 * MiB);

    const operator = async (...args: readonly string[]): ReturnType<typeof command> =>
      await command('rephub', ['resync', 'vm1', '--http', hub.http, ...args]);
    expect(await operator('--drop-last-good', '--yes')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('lacks room') as string,
    });
    expect(await operator('--full', '--yes')).toMatchObject({ code: 0 });
    const short = await hub.waitFor('vm1', 'the resync to be refused', ({ reason }) => reason.includes('no room'));
    expect(short.state).toBe('degraded');
    expect(short.reason).toMatch(/up to \d+ bytes .* \d+ bytes are short/);
    await agent.waitFor(
      'the agent to know',
      ({ state, reason }) => state === 'degraded' && reason.includes('does not fit'),
    );

    // The guest goes on, its writes are marked, and the last good point stays what it was.
    expect((await load(agent.uri(), { blockBytes: 65_536, depth: 4, sizeBytes: 32 * MiB })).errors).toBe(0);
    await agent.waitFor('marks', ({ dirtyBytes }) => dirtyBytes > 0);
    expectSame(await compareFiles(lastGood, await copyOf(scope, hub.uri('vm1', 'disk0'))));

    const plan = await operator('--drop-last-good');
    expect(plan.code).toBe(2);
    expect(plan.stderr).toContain('without any point');
    expect(await operator('--drop-last-good', '--yes')).toMatchObject({ code: 0 });
    await agent.waitUntilProtected(120_000);
    await hub.waitFor('vm1', 'protected again', ({ state }) => state === 'protected');
    await expectReplica(scope, upstream.uri, hub);
    const events = await command('rephub', ['events', '--http', hub.http]);
    for (const event of ['span-refused', 'drop-last-good-allowed', 'last-good-dropped'])
      expect(events.stdout).toContain(event);
  },
);

test('room below the reserve: an open failover test ends first, protection goes on', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const disk = await smallDisk(scope, 400 * MiB);
  const { upstream, hub, agent } = await protectedDisk(scope, 32 * MiB, {
    filled: true,
    hub: { dataDir: join(disk, 'data'), args: ['--retention', '0', '--reserve', '64MiB'] },
  });
  const test = await command('failover-test', [
    'vm1',
    '--http',
    hub.http,
    '--keep',
    '--name',
    'long',
    '--check',
    'true',
  ]);
  expect(test, test.stdout + test.stderr).toMatchObject({ code: 0 });
  // The base image takes its room when the first sync is folded into it, not before.
  await hub.waitFor('vm1', 'all to be folded', ({ seq, appliedSeq }) => seq === appliedSeq);
  await leaveFree(disk, 48 * MiB);
  await load(agent.uri(), { pattern: 'write', blockBytes: 65_536, depth: 4, sizeBytes: 4 * MiB });
  await hub.waitFor('vm1', 'the test to end', ({ tests }) =>
    tests.some((one) => JSON.stringify(one).includes('room runs low')),
  );
  await agent.waitUntilProtected();
  await hub.waitFor('vm1', 'protected, as the agent says', ({ state }) => state === 'protected');
  const more = await command('failover-test', ['vm1', '--http', hub.http, '--check', 'true']);
  expect(more.code).not.toBe(0);
  expect(more.stdout + more.stderr).toContain('no room for a test');
  await expectReplica(scope, upstream.uri, hub);
});
