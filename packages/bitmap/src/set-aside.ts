/** Putting aside a state file that is not ours, or cannot be believed. Owns the names `*.set-aside-N`. */
import { type FileSystem, parentOf } from '@rephub/platform';

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
