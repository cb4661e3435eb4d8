// A real VM boots from nothing but Debian's kernel and busybox, writes to an NBD disk and powers off.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mountGuestFs } from './guest-fs.js';
import { qemuNbd, sparseFile } from './peers.js';
import { must } from './process.js';
import { testScope } from './test-scope.js';
import { bootVm } from './vm.js';

test(
  'a VM mounts ext4 on an NBD disk, writes a file and powers off; the file is there',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await sparseFile(scope, 64 << 20);
    await must('mkfs.ext4', ['-qF', disk]);
    const peer = await qemuNbd(scope, disk);
    if (!('socket' in peer.address)) throw new Error('a socket was asked for');
    const vm = await bootVm(scope, {
      disks: [{ socket: peer.address.socket }],
      script: 'set -e; mount -t ext4 /dev/vda /mnt; echo "from the VM" > /mnt/hello; umount /mnt; echo written',
    });
    await vm.waitFor(/written/);
    await vm.finished();
    const guest = await mountGuestFs(scope, peer.uri, { format: false, readOnly: true });
    expect(await readFile(join(guest.dir, 'hello'), 'utf8')).toBe('from the VM\n');
  },
);

test("a script that fails is the VM's failure, with its console", { timeout: 120_000 }, async () => {
  const vm = await bootVm(testScope(), { disks: [], script: 'echo about to fail; exit 7' });
  await expect(vm.finished()).rejects.toThrow(/script ended with 7; console: .*about to fail/s);
});
