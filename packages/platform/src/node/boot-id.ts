/** Which run of this machine it is: Linux draws an id at each start. */
import { readFile } from 'node:fs/promises';

const PATH = '/proc/sys/kernel/random/boot_id';

/** Null where there is none, or it is not one. */
export async function nodeBootId(path: string = PATH): Promise<string | null> {
  try {
    const id = (await readFile(path, 'utf8')).trim();
    return /^[0-9a-f-]{36}$/.test(id) ? id : null;
  } catch {
    return null;
  }
}
