// ORD: a real ext4 lives on the agent's export; the hub's replica is a clean ext4 with the same files, and at every
// moment in between one that its own journal brings to order.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyOf } from '../kit/contents.js';
import { exportAsFile, mountGuestFs } from '../kit/guest-fs.js';
import { must, run, start } from '../kit/process.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test(
  'files written and unmounted: the replica passes e2fsck and holds the same files',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { upstream, hub, agent } = await protectedDisk(scope, 128 * MiB);
    const guest = await mountGuestFs(scope, agent.uri());
    await must('cp', ['-r', '/usr/share/common-licenses', join(guest.dir, 'tree')]);
    await must('dd', ['if=/dev/urandom', `of=${join(guest.dir, 'big')}`, 'bs=1M', 'count=20', 'status=none']);
    await must('rm', [join(guest.dir, 'tree', 'GPL-3')]);
    await guest.sync();
    const sums = await must('sh', ['-c', `cd '${guest.dir}' && find . -type f | sort | xargs -d '\\n' sha256sum`]);
    await guest.close();
    await agent.waitUntilProtected();

    const shown = await exportAsFile(scope, hub.uri('vm1', 'disk0'), { readOnly: true });
    const check = await run('e2fsck', ['-fn', shown.file]);
    expect(check.code, check.stdout + check.stderr).toBe(0);
    await shown.close();
    const replica = await mountGuestFs(scope, hub.uri('vm1', 'disk0'), { format: false, readOnly: true });
    expect(await must('sh', ['-c', `cd '${replica.dir}' && find . -type f | sort | xargs -d '\\n' sha256sum`])).toBe(
      sums,
    );
    await replica.close();
    await expectReplica(scope, upstream.uri, hub);
  },
);

test(
  'at any moment under load the replica is a file system that recovers from its journal',
  { timeout: 180_000 },
  async () => {
    const scope = testScope();
    const { upstream, hub, agent } = await protectedDisk(scope, 96 * MiB);
    const guest = await mountGuestFs(scope, agent.uri());
    // Small files with fsync, renames and removals: metadata in motion.
    const busy =
      'i=0; while :; do i=$((i+1)); d=d$((i%20)); mkdir -p $d; dd if=/dev/urandom of=$d/f bs=8k count=$((i%9+1)) conv=fsync status=none; mv $d/f $d/g$((i%7)); [ $((i%13)) = 0 ] && rm -rf d$((i%5)); done';
    const work = start(scope, 'sh', ['-c', busy], { cwd: guest.dir, stopWithinMs: 1000 });
    for (let moment = 0; moment < 4; moment += 1) {
      await hub.moreRecords('vm1', 150);
      const copy = await copyOf(scope, hub.uri('vm1', 'disk0'));
      const repaired = await run('e2fsck', ['-p', copy]);
      expect([0, 1], `moment ${moment}: ${repaired.stdout}${repaired.stderr}`).toContain(repaired.code);
      const check = await run('e2fsck', ['-fn', copy]);
      expect(check.code, `moment ${moment}: ${check.stdout}${check.stderr}`).toBe(0);
    }
    await work.stop();
    await guest.close();
    await agent.waitUntilProtected();
    await expectReplica(scope, upstream.uri, hub);
  },
);

test(
  'a file synced before the hub was killed is in the replica that its restart serves',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { upstream, hub, agent } = await protectedDisk(scope, 64 * MiB);
    const guest = await mountGuestFs(scope, agent.uri());
    await writeFile(join(guest.dir, 'kept'), 'durable before the kill');
    await guest.sync();
    await agent.waitUntilProtected();
    // Standing still, the agent cannot send anything again: what the hub serves is what it had made durable.
    agent.child.pause();
    await hub.child.killHard();
    await hub.start();
    const copy = await copyOf(scope, hub.uri('vm1', 'disk0'));
    await run('e2fsck', ['-p', copy]);
    expect(await must('debugfs', ['-R', 'cat /kept', copy])).toBe('durable before the kill');
    agent.child.resume();
    await guest.close();
    await agent.waitUntilProtected();
    await expectReplica(scope, upstream.uri, hub);
  },
);
