// A kernel file system on an NBD export works, is clean after unmounting, and leaves nothing behind.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FsKind, exportAsFile, mountGuestFs } from './guest-fs.js';
import { nbdkit, qemuNbd, sparseFile } from './peers.js';
import { must, run } from './process.js';
import { Scope } from './scope.js';
import { testScope } from './test-scope.js';

const MiB = 1 << 20;
const checks: Readonly<Record<FsKind, readonly [string, ...string[]]>> = {
  ext4: ['e2fsck', '-fn'],
  xfs: ['xfs_repair', '-n'],
  btrfs: ['btrfs', 'check', '--readonly'],
};

test.for(['ext4', 'xfs', 'btrfs'] as const)(
  '%s on qemu-nbd: files written, unmounted, clean, read again',
  async (kind) => {
    const scope = testScope();
    const disk = await sparseFile(scope, 320 * MiB);
    const peer = await qemuNbd(scope, disk);
    const guest = await mountGuestFs(scope, peer.uri, { kind });
    await writeFile(join(guest.dir, 'hello'), 'from the guest');
    await guest.sync();
    await guest.close();
    const [command, ...args] = checks[kind];
    const check = await run(command, [...args, disk]);
    expect(check.code, check.stdout + check.stderr).toBe(0);
    const again = await mountGuestFs(scope, peer.uri, { kind, format: false, readOnly: true });
    expect(await readFile(join(again.dir, 'hello'), 'utf8')).toBe('from the guest');
  },
);

test('a scope that closes with a file system mounted leaves no mount, no loop device, no process', async () => {
  const scope = new Scope();
  const peer = await nbdkit(scope, ['memory', '64M']);
  const guest = await mountGuestFs(scope, peer.uri);
  await writeFile(join(guest.dir, 'open'), 'left open');
  await scope.close();
  expect((await run('mountpoint', ['-q', guest.dir])).code).not.toBe(0);
  expect((await run('losetup', [guest.device])).code).not.toBe(0);
});

test('an export shown as a file can be read and checked', async () => {
  const scope = testScope();
  const peer = await nbdkit(scope, ['data', '0x68 0x69', 'size=1M']);
  const shown = await exportAsFile(scope, peer.uri, { readOnly: true });
  expect((await must('head', ['-c', '2', shown.file])).trim()).toBe('hi');
  await shown.close();
});
