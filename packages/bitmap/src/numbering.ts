/**
 * The numbers of a state directory's volumes, from what is on the disk: the maps in use and, where names have gone,
 * STATE/numbers.
 *
 * Always holds: nothing is changed before `store`; when that resolves the numbers are durable, and no map has been made
 * under any of them yet. What cannot be read costs no more than the numbers of names that are away.
 */
import { CorruptionFault, type FileSystem, StorageFault } from '@rephub/platform';
import type { StoredIdentity } from './identity.js';
import { setAside } from './set-aside.js';
import { readMapHeader } from './map-file.js';
import { MAX_VOLUME_INDEX } from './geometry.js';
import { isSameTable, isWorthStoring, type NumberTable, numberVolumes, takeNumbers } from './numbers.js';
import { NUMBERS_NAME, readNumbers, writeNumbers } from './numbers-file.js';
import { mapPath } from './recovery.js';

export interface Numbering {
  /** By name. */
  readonly numbers: ReadonlyMap<string, number>;
  /** Names that are known, and not listed. */
  readonly away: readonly string[];
  /** Before anything is kept under a number. Throws StorageFault. */
  store(): Promise<void>;
}

export async function findNumbering(
  files: FileSystem,
  directory: string,
  identity: Pick<StoredIdentity, 'agentId' | 'volumes'>,
  names: readonly string[],
): Promise<Numbering> {
  const { agentId, volumes: inUse } = identity;
  const path = `${directory}/${NUMBERS_NAME}`;
  const stored = await read(files, path, agentId);
  const mapped = await numbersInMaps(files, directory, agentId, new Set(inUse));
  const table = numberVolumes(names, { table: stored === 'damaged' ? null : stored, mapped, inUse });
  return {
    numbers: table.numbers,
    away: [...table.numbers.keys()].filter((name) => !names.includes(name)),
    async store() {
      if (stored === 'damaged') await setAside(files, path);
      const isStored = stored !== 'damaged' && stored !== null;
      if (isStored ? !isSameTable(stored, table) : isWorthStoring(names, table)) {
        await writeNumbers(files, path, agentId, table);
      }
    },
  };
}

/**
 * A hub has other numbers for volumes of these names: stores them for the next start, which then believes no mark that was
 * kept under another. Only while the directory is in use by this agent; `used` are the numbers that it has now. False when
 * nothing can be made of what the hub says. Throws StorageFault.
 */
export async function storeHubNumbers(
  files: FileSystem,
  directory: string,
  agentId: string,
  used: ReadonlyMap<string, number>,
  hub: ReadonlyMap<string, number>,
): Promise<boolean> {
  if ([...hub.values()].some((number) => number > MAX_VOLUME_INDEX)) return false;
  const path = `${directory}/${NUMBERS_NAME}`;
  const stored = await read(files, path, agentId);
  if (stored === 'damaged') await setAside(files, path);
  const known = stored === 'damaged' || stored === null ? { next: 0, numbers: used } : stored;
  const next = Math.max(known.next, 1 + Math.max(-1, ...used.values()));
  const table = takeNumbers([...used.keys()], { next, numbers: known.numbers }, hub);
  if (known !== stored || !isSameTable(known, table)) await writeNumbers(files, path, agentId, table);
  return true;
}

async function read(files: FileSystem, path: string, agentId: string): Promise<NumberTable | 'damaged' | null> {
  try {
    return await readNumbers(files, path, agentId);
  } catch (thrown) {
    if (!(thrown instanceof CorruptionFault)) throw thrown;
    return 'damaged';
  }
}

/** By name, of the maps that are in use; what cannot be read is left out: whoever needs it will say why. */
async function numbersInMaps(
  files: FileSystem,
  directory: string,
  agentId: string,
  inUse: ReadonlySet<number>,
): Promise<Map<string, number>> {
  const numbers = new Map<string, number>();
  for (const name of await files.list(directory)) {
    if (!name.endsWith('.map')) continue;
    const path = `${directory}/${name}`;
    try {
      const file = await files.open(path, 'read');
      try {
        const { header } = await readMapHeader(file, path, agentId);
        if (inUse.has(header.index) && mapPath(directory, header.name) === path) numbers.set(header.name, header.index);
      } finally {
        await file.close();
      }
    } catch (thrown) {
      if (!(thrown instanceof CorruptionFault) && !(thrown instanceof StorageFault)) throw thrown;
    }
  }
  return numbers;
}
