// ISOLATE: a failover test opens the replica as a writable branch, tells a good disk from a spoiled one, and leaves
// nothing behind, while protection goes on.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { compareFiles, copyOf } from '../kit/contents.js';
import { mountGuestFs } from '../kit/guest-fs.js';
import { startLoad } from '../kit/load.js';
import { sparseFile } from '../kit/peers.js';
import { must, type RunResult } from '../kit/process.js';
import { type HubPlace, startSystem } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { expectReplica, expectSame } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const through = join(import.meta.dirname, '../kit/check-through-nbd.sh');
const FSCK = `sh ${through} e2fsck -fn`;

async function failoverTest(hub: HubPlace, ...args: readonly string[]): Promise<RunResult> {
  return await command('failover-test', ['vm1', '--http', hub.http, ...args], { timeoutMs: 120_000 });
}

test(
  'passes on a good ext4, fails on a spoiled one, and the replica stays as it was',
  { timeout: 180_000 },
  async () => {
    const scope = testScope();
    const { hub, agent } = await protectedDisk(scope, 96 * MiB);
    const guest = await mountGuestFs(scope, agent.uri());
    await must('cp', ['-r', '/usr/share/common-licenses', guest.dir]);
    await guest.close();
    await agent.waitUntilProtected();
    const before = await copyOf(scope, hub.uri('vm1', 'disk0'));

    const good = await failoverTest(hub, '--check', FSCK);
    expect(good, good.stdout + good.stderr).toMatchObject({ code: 0 });
    expect(good.stdout).toMatch(/passed/);

    // A check that writes all over the branch: the branch is its own.
    const wild = await failoverTest(
      hub,
      '--check',
      'qemu-io -f raw -c "write -P 0xee 0 32M" -c "read -P 0xee 0 32M" "$REPHUB_TEST_URI"',
      '--check',
      'exit 0',
    );
    expect(wild, wild.stdout + wild.stderr).toMatchObject({ code: 0 });
    const spoiledBranch = await failoverTest(
      hub,
      '--check',
      'qemu-io -f raw -c "write -P 0xee 0 32M" "$REPHUB_TEST_URI"',
      '--check',
      FSCK,
    );
    expect(spoiledBranch, spoiledBranch.stdout + spoiledBranch.stderr).toMatchObject({ code: 1 });
    expectSame(await compareFiles(before, await copyOf(scope, hub.uri('vm1', 'disk0'))));
    expect((await hub.status('vm1')).tests).toEqual([]);

    // The disk itself is spoiled: the replica is as bad, and the test says so.
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 0xff 0 4M', agent.uri()]);
    await agent.waitUntilProtected();
    const bad = await failoverTest(hub, '--check', FSCK);
    expect(bad, bad.stdout + bad.stderr).toMatchObject({ code: 1 });
  },
);

test(
  'under load: protection goes on during the test, and the replica is equal to the disk afterwards',
  { timeout: 180_000 },
  async () => {
    const scope = testScope();
    const { upstream, hub, agent } = await protectedDisk(scope, 64 * MiB);
    const running = await startLoad(scope, agent.uri(), {
      sizeBytes: 32 * MiB,
      untilStopped: true,
      ratePerSecond: 1000,
    });
    await hub.moreRecords('vm1', 200);
    const atStart = await hub.status('vm1');
    // The same bytes twice, from a point that does not move, though the disk does.
    const twice =
      'nbdcopy "$REPHUB_TEST_URI" one.raw && qemu-io -f raw -c "write -P 0x11 40M 1M" "$REPHUB_TEST_URI" && nbdcopy "$REPHUB_TEST_URI" two.raw && cmp -n 41943040 one.raw two.raw';
    const dir = await tempDir(scope);
    const tested = await failoverTest(hub, '--check', `cd '${dir}' && ${twice}`);
    expect(tested, tested.stdout + tested.stderr).toMatchObject({ code: 0 });
    const atEnd = await hub.status('vm1');
    expect(atEnd.seq).toBeGreaterThan(atStart.seq);
    expect((await running.stopped()).errors).toBe(0);
    await agent.waitUntilProtected();
    await expectReplica(scope, upstream.uri, hub);
  },
);

test(
  'exit codes: a check that cannot tell, one out of time, an unknown group, no hub, wrong usage',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { hub } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`);
    const dir = await tempDir(scope);
    const report = join(dir, 'report.json');
    expect((await failoverTest(hub, '--check', 'exit 75')).code).toBe(75);
    expect((await failoverTest(hub, '--timeout', '1s', '--check', 'sleep 60')).code).toBe(1);
    expect((await command('failover-test', ['nosuch', '--http', hub.http, '--check', 'true'])).code).toBe(2);
    expect((await command('failover-test', ['vm1', '--http', '127.0.0.1:1', '--check', 'true'])).code).toBe(75);
    expect((await failoverTest(hub, '--chekc', 'true')).code).toBe(2);
    expect((await failoverTest(hub, '--report', report, '--check', 'true')).code).toBe(0);
    expect(JSON.parse(await readFile(report, 'utf8'))).toMatchObject({ group: 'vm1', verdict: 'passed' });
  },
);

test(
  'a hub killed during a test: the test could not tell, and is gone after the restart',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`);
    const testing = failoverTest(
      hub,
      '--check',
      'qemu-io -f raw -c "write -P 1 0 1M" "$REPHUB_TEST_URI"; sleep 1000',
      '--timeout',
      '3s',
    );
    await hub.waitFor('vm1', 'the test to be open', ({ tests }) => tests.length === 1);
    await hub.child.killHard();
    await hub.start();
    expect((await testing).code).not.toBe(0);
    await agent.waitUntilProtected();
    expect((await hub.status('vm1')).tests).toEqual([]);
  },
);
