/** A disk with no hole and no zero block: on it, sending everything costs its whole size, and shows. */
import { sparseFile } from './peers.js';
import { must } from './process.js';
import { type Scope } from './scope.js';

/** A raw file of random bytes in a folder of its own. */
export async function filledDisk(scope: Scope, sizeBytes: number): Promise<string> {
  const file = await sparseFile(scope, sizeBytes);
  await must('dd', [
    'if=/dev/urandom',
    `of=${file}`,
    'bs=1M',
    `count=${sizeBytes / 2 ** 20}`,
    'conv=notrunc',
    'status=none',
  ]);
  return file;
}
