/**
 * A real virtual machine without KVM: QEMU's own CPU (TCG), Debian's cloud kernel, an initramfs of busybox and a shell
 * script given by the test. Its disks are NBD exports on Unix sockets, with the patience that a VM should be given
 * (`reconnect-delay`). Boots in a few seconds; the serial console is kept.
 */
import { chmod, copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Child, must, start } from './process.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';

/** The order matters: each needs those before it. Those that are built in are not there. */
const MODULES = ['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_blk'];

export interface VmDisk {
  readonly socket: string;
  readonly exportName?: string;
  /** Default 60: the guest waits that long for a server that comes back. */
  readonly reconnectDelaySeconds?: number;
}

export interface VmOptions {
  /** /dev/vda, /dev/vdb, … in this order. */
  readonly disks: readonly VmDisk[];
  /** Run by busybox's sh as root, with proc, sys and dev mounted. The VM powers off after it. */
  readonly script: string;
  readonly memoryMiB?: number;
}

export interface Vm {
  readonly child: Child;
  /** What the serial console has shown so far. */
  console(): string;
  /** Waits for the console to show it. */
  waitFor(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>;
  /** Waits for power-off; fails when the script did not end with 0. */
  finished(timeoutMs?: number): Promise<void>;
}

function initScript(script: string): string {
  return [
    '#!/bin/busybox sh',
    '/bin/busybox --install -s /bin',
    'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev',
    ...MODULES.map((name) => `[ -f /modules/${name}.ko ] && insmod /modules/${name}.ko`),
    'mkdir -p /mnt',
    "cat > /script <<'END-OF-SCRIPT'",
    script,
    'END-OF-SCRIPT',
    'sh /script; echo "script-ended-with:$?"',
    'sync; poweroff -f',
    '',
  ].join('\n');
}

async function initramfs(dir: string, modules: string, script: string): Promise<string> {
  const root = join(dir, 'root');
  for (const folder of ['bin', 'proc', 'sys', 'dev', 'modules']) await mkdir(join(root, folder), { recursive: true });
  const busybox = (await must('sh', ['-c', 'command -v busybox'])).trim();
  await copyFile(busybox, join(root, 'bin/busybox'));
  for (const name of await readdir(modules)) await copyFile(join(modules, name), join(root, 'modules', name));
  await writeFile(join(root, 'init'), initScript(script));
  await chmod(join(root, 'init'), 0o755);
  const image = join(dir, 'initramfs');
  await must('sh', ['-c', `cd '${root}' && find . | cpio --quiet -o -H newc > '${image}'`]);
  return image;
}

/** Boots a VM; returns at once. The scope ends it if it has not powered off by then. */
export async function bootVm(scope: Scope, options: VmOptions): Promise<Vm> {
  const kernel = (
    await must(join(import.meta.dirname, '../../scripts/guest-kernel.sh'), [], { timeoutMs: 120_000 })
  ).trim();
  const initrd = await initramfs(await tempDir(scope), join(kernel, 'modules'), options.script);
  const drives = options.disks.flatMap(({ socket, exportName, reconnectDelaySeconds }) => [
    '-drive',
    `if=virtio,format=raw,discard=unmap,file.driver=nbd,file.server.type=unix,file.server.path=${socket},` +
      `file.export=${exportName ?? ''},file.reconnect-delay=${reconnectDelaySeconds ?? 60}`,
  ]);
  const child = start(scope, 'qemu-system-x86_64', [
    ...[
      '-accel',
      'tcg',
      '-m',
      String(options.memoryMiB ?? 256),
      '-no-reboot',
      '-nodefaults',
      '-display',
      'none',
      '-serial',
      'stdio',
    ],
    ...['-kernel', join(kernel, 'vmlinuz'), '-initrd', initrd, '-append', 'console=ttyS0 panic=-1 quiet loglevel=3'],
    ...drives,
  ]);
  return {
    child,
    console: () => child.output,
    waitFor: async (pattern, timeoutMs = 60_000) => await child.waitForOutput(pattern, timeoutMs),
    finished: async (timeoutMs = 120_000) => {
      await child.waitForExit(timeoutMs);
      const code = /script-ended-with:(\d+)/.exec(child.output)?.[1];
      if (code !== '0')
        throw new Error(`the VM's script ended with ${code ?? 'nothing'}; console: ${child.output.slice(-3000)}`);
    },
  };
}
