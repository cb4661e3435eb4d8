/** A real file system of a few hundred MiB, for what happens when it fills up: ext4 on a loop device. */
import { must, run } from './process.js';
import { sparseFile } from './peers.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';

/** Mounts an empty ext4 of this size; gives its folder. */
export async function smallDisk(scope: Scope, sizeBytes: number): Promise<string> {
  const image = await sparseFile(scope, sizeBytes, 'small.ext4');
  await must('mkfs.ext4', ['-qF', '-m', '0', image]);
  const dir = await tempDir(scope);
  await must('mount', ['-o', 'loop', image, dir]);
  scope.defer(`mount ${dir}`, async () => {
    await must('umount', ['-l', dir]);
  });
  return dir;
}

/** Bytes that may still be written there. */
async function freeBytes(dir: string): Promise<number> {
  return Number((await must('df', ['--output=avail', '-B1', dir])).split('\n')[1]);
}

/** Makes a file that takes all but so much of what is free; gives its name. */
export async function leaveFree(dir: string, bytes: number): Promise<string> {
  const path = `${dir}/filler`;
  const fill = (await freeBytes(dir)) - bytes;
  // Others write meanwhile: what does not fit is left out.
  if (fill > 0) await run('fallocate', ['-l', String(fill), path]);
  return path;
}
