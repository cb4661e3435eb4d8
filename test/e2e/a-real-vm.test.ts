// A real VM writes through the agent; what it wrote is found in the replica, also when the agent dies under it.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mountGuestFs } from '../kit/guest-fs.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedFile } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';
import { bootVm } from '../kit/vm.js';

const MiB = 1 << 20;

test('a file that the VM wrote is found in the replica', { timeout: 180_000 }, async () => {
  const scope = testScope();
  const disk = await sparseFile(scope, 64 * MiB);
  await must('mkfs.ext4', ['-qF', disk]);
  const { upstream, hub, agent } = await protectedFile(scope, disk);
  const vm = await bootVm(scope, {
    disks: [{ socket: agent.address.socket, exportName: 'disk0' }],
    script:
      'set -e; mount -t ext4 /dev/vda /mnt; echo "written in the VM" > /mnt/hello; dd if=/dev/urandom of=/mnt/noise bs=64k count=32; umount /mnt',
  });
  await vm.finished();
  await agent.waitUntilProtected();
  const replica = await mountGuestFs(scope, hub.uri('vm1', 'disk0'), { format: false, readOnly: true });
  expect(await readFile(join(replica.dir, 'hello'), 'utf8')).toBe('written in the VM\n');
  await replica.close();
  await expectReplica(scope, upstream.uri, hub);
});

test(
  'the agent is killed while the VM writes: the VM waits, goes on, and loses nothing',
  { timeout: 180_000 },
  async () => {
    const scope = testScope();
    const disk = await sparseFile(scope, 64 * MiB);
    await must('mkfs.ext4', ['-qF', disk]);
    const { upstream, hub, agent } = await protectedFile(scope, disk);
    const vm = await bootVm(scope, {
      disks: [{ socket: agent.address.socket, exportName: 'disk0' }],
      script:
        'set -e; mount -t ext4 -o errors=panic /dev/vda /mnt; for i in $(seq 40); do dd if=/dev/urandom of=/mnt/f$i bs=64k count=4 2>/dev/null; sync; echo round-$i; done; ' +
        'cd /mnt; sha256sum f* > sums; cd /; umount /mnt; mount -t ext4 /dev/vda /mnt; cd /mnt; sha256sum -c sums | grep -v OK && exit 9; cd /; umount /mnt',
    });
    await vm.waitFor(/round-5\b/);
    await agent.child.killHard();
    await agent.start();
    await vm.waitFor(/round-15\b/);
    await agent.child.killHard();
    await agent.start();
    await vm.finished();
    await agent.waitUntilProtected();
    await expectReplica(scope, upstream.uri, hub);
  },
);
