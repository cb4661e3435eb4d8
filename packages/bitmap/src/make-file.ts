/**
 * Making state files so that a crash leaves either the old file, the new one or none, never half of one, and
 * putting aside what is not ours. Owns the names `*.new` and `*.set-aside-N`.
 */
import { type FileSystem, type OpenFile, parentOf } from '@rephub/platform';

/** Makes a file in full beside its place, syncs it and puts it there, replacing what has the name. Durable when it resolves. */
export async function makeFile(
  files: FileSystem,
  path: string,
  fill: (file: OpenFile) => Promise<void>,
): Promise<void> {
  const beside = `${path}.new`;
  await files.remove(beside);
  const file = await files.open(beside, 'create-new');
  try {
    await fill(file);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(beside, path);
  await files.syncDirectory(parentOf(path));
}

/** Renames a file to the first free `*.set-aside-N`, durably; returns that path. Nothing is ever overwritten. */
export async function setAside(files: FileSystem, path: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const aside = `${path}.set-aside-${number}`;
    if ((await files.status(aside)) !== null) continue;
    await files.rename(path, aside);
    await files.syncDirectory(parentOf(path));
    return aside;
  }
}
