/**
 * A real kernel file system on any NBD export, without kernel NBD: nbdfuse shows the export as a file, a loop device
 * shows the file as a disk, and mkfs and mount do the rest. Undone in reverse order when the scope closes.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Child, must, run, start } from './process.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';
import { waitUntil } from './wait.js';

export type FsKind = 'ext4' | 'xfs' | 'btrfs';

/** An export as a file of the host: `file` is the disk's bytes. For fsck, cmp, losetup. */
export interface ExportFile {
  readonly file: string;
  readonly child: Child;
  close(): Promise<void>;
}

/** Shows an NBD export as a file through FUSE. */
export async function exportAsFile(
  scope: Scope,
  uri: string,
  options: { readonly readOnly?: boolean } = {},
): Promise<ExportFile> {
  const dir = join(await tempDir(scope), 'fuse');
  await mkdir(dir);
  const child = start(scope, 'nbdfuse', [...(options.readOnly === true ? ['-r'] : []), join(dir, 'disk'), uri]);
  let open = true;
  const close = async (): Promise<void> => {
    if (!open) return;
    open = false;
    // The loop device lets go of the file a moment after it was told to.
    await waitUntil(
      `unmounting ${dir}`,
      async () => child.exit !== undefined || (await run('fusermount3', ['-u', dir])).code === 0,
    );
    const exit = await child.waitForExit();
    if (exit.code !== 0) throw new Error(`nbdfuse ended with ${exit.signal ?? exit.code ?? ''}: ${child.output}`);
  };
  scope.defer(`nbdfuse on ${dir}`, async () => {
    if (child.exit === undefined) {
      await close();
      return;
    }
    await run('fusermount3', ['-u', '-z', dir]);
  });
  await child.waitFor('nbdfuse to mount', async () => (await run('mountpoint', ['-q', dir])).code === 0);
  return { file: join(dir, 'disk'), child, close };
}

/** A mounted file system. `dir` is where its files are. */
export interface GuestFs {
  readonly dir: string;
  readonly device: string;
  /** Everything written so far is on the export, flushed. */
  sync(): Promise<void>;
  /** Unmounts and lets go of the export; the file system is then clean. */
  close(): Promise<void>;
}

/** Makes a file system on an export (`format`), or mounts the one that is there. */
export async function mountGuestFs(
  scope: Scope,
  uri: string,
  options: { readonly kind?: FsKind; readonly format?: boolean; readonly readOnly?: boolean } = {},
): Promise<GuestFs> {
  const kind = options.kind ?? 'ext4';
  const shown = await exportAsFile(scope, uri, options.readOnly === true ? { readOnly: true } : {});
  const device = (
    await must('losetup', ['-f', '--show', ...(options.readOnly === true ? ['-r'] : []), shown.file])
  ).trim();
  let attached = true;
  const detach = async (): Promise<void> => {
    if (!attached) return;
    attached = false;
    await must('losetup', ['-d', device]);
    await waitUntil(`${device} to let go`, async () => (await run('losetup', [device])).code !== 0);
  };
  scope.defer(`loop device ${device}`, detach);
  if (options.format !== false) await must(`mkfs.${kind}`, [kind === 'ext4' ? '-qF' : '-qf', device]);
  const dir = await tempDir(scope);
  await must('mount', [
    '-t',
    kind,
    ...(options.readOnly === true ? ['-o', kind === 'ext4' ? 'ro,noload' : 'ro'] : []),
    device,
    dir,
  ]);
  let mounted = true;
  const unmount = async (): Promise<void> => {
    if (!mounted) return;
    mounted = false;
    const result = await run('umount', [dir]);
    if (result.code !== 0) {
      await run('umount', ['-l', dir]);
      throw new Error(`umount ${dir}: ${result.stderr}`);
    }
  };
  scope.defer(`mount on ${dir}`, unmount);
  return {
    dir,
    device,
    sync: async () => {
      await must('sync', ['-f', dir]);
      await must('blockdev', ['--flushbufs', device]);
    },
    close: async () => {
      await unmount();
      await detach();
      await shown.close();
    },
  };
}
