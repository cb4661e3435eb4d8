/**
 * Reads what the files say: the table of hot.log and the pages of every map, put together as marks. Changes
 * nothing.
 *
 * Always holds: whatever cannot be relied on is thrown as a CorruptionFault; nothing is guessed.
 */
import {
  ConfigFault,
  CorruptionFault,
  type FileSystem,
  type OpenFile,
  type OpenMode,
  StorageFault,
} from '@rephub/platform';
import {
  type CheckedOptions,
  type Geometry,
  geometryOf,
  MAX_HOT_EXTENTS,
  MIN_HOT_EXTENTS,
  NO_EXTENT,
} from './geometry.js';
import { HOT_LOG_NAME } from './hot-log.js';
import type { StoredIdentity } from './identity.js';
import { MapFile, readMapHeader, readPages } from './map-file.js';
import { Marks } from './marks.js';
import type { TornCopy } from './page.js';
import { type RecoveredRing, recoverRing, RING_BYTES } from './ring.js';

export function mapPath(directory: string, name: string): string {
  return `${directory}/${name}.map`;
}

/** Opens a file that must be there; CorruptionFault `code` when it is missing. */
async function openExisting(files: FileSystem, path: string, mode: OpenMode, code: string): Promise<OpenFile> {
  try {
    return await files.open(path, mode);
  } catch (thrown) {
    if (thrown instanceof StorageFault && thrown.code === 'not-found') {
      throw new CorruptionFault(code, `${path} is missing`, { cause: thrown });
    }
    throw thrown;
  }
}

/** hot.log, open, and what it says. */
export async function readHotLog(
  files: FileSystem,
  directory: string,
  agentId: string,
  mode: OpenMode = 'write',
): Promise<{ readonly file: OpenFile; readonly ring: RecoveredRing }> {
  const file = await openExisting(files, `${directory}/${HOT_LOG_NAME}`, mode, 'hot-log-missing');
  try {
    const content = Buffer.alloc(RING_BYTES);
    const count = await file.read(content, 0);
    const ring = recoverRing(content.subarray(0, count), agentId);
    const { slots } = ring.newest;
    if (slots < MIN_HOT_EXTENTS || slots > MAX_HOT_EXTENTS) {
      throw new CorruptionFault('hot-log-corrupt', `hot.log has ${slots} slots`);
    }
    return { file, ring };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

/** A map that is there, open, and how it is laid out (its granularity may be another than today's). */
export interface OpenMap {
  readonly file: OpenFile;
  readonly path: string;
  readonly tag: number;
  readonly stored: Geometry;
}

/**
 * Opens the map of a volume; null when the volume is new to this state. Throws ConfigFault `wrong-size` before
 * anything is changed, CorruptionFault when the map cannot be relied on.
 */
export async function openMap(
  files: FileSystem,
  directory: string,
  identity: StoredIdentity,
  geometry: Geometry,
  mayShrink: boolean,
): Promise<OpenMap | null> {
  if (!identity.volumes.includes(geometry.index)) return null;
  const path = mapPath(directory, geometry.name);
  const file = await openExisting(files, path, 'write', 'map-missing');
  try {
    const { header, tag } = await readMapHeader(file, path, identity.agentId);
    if (header.name !== geometry.name || header.index !== geometry.index) {
      throw new CorruptionFault(
        'map-foreign',
        `${path} is of volume ${header.index} (${header.name}), not ${geometry.index} (${geometry.name})`,
      );
    }
    if (header.sizeBytes !== geometry.sizeBytes) {
      const message = `volume ${geometry.name} has ${geometry.sizeBytes} bytes, its marks are of one with ${header.sizeBytes}`;
      if (geometry.sizeBytes < header.sizeBytes && !mayShrink) {
        throw new ConfigFault('wrong-size', `${message}; a volume shrinks only with --allow-shrink`);
      }
      throw new CorruptionFault('map-resized', message);
    }
    return { file, path, tag, stored: geometryOf(geometry, header.granularityBytes) };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

/** A page whose older copy is torn, with the bits of its whole copy. */
export interface TornPage {
  readonly page: number;
  readonly words: Uint32Array;
}

export interface ReadMap {
  readonly map: MapFile;
  readonly torn: readonly TornPage[];
  /** The highest number on which a page's cleared bits rest. */
  readonly restsOn: number;
}

/** Reads all pages of a map into the marks, which must have its stored geometry. */
export async function readMap(open: OpenMap, marks: Marks, ring: RecoveredRing, syncs: boolean): Promise<ReadMap> {
  const { file, path, tag, stored } = open;
  const volume = marks.volume(stored.index);
  const announced = ring.announced.filter((run) => run.volume === stored.index);
  const tornCopy = (page: number): TornCopy => {
    const run = announced.find(({ first, count }) => page >= first && page < first + count);
    return run === undefined ? null : (run.copy ?? 'either');
  };
  const torn: TornPage[] = [];
  let restsOn = 0;
  // A killed process may have left it unsynced, and what follows relies on it.
  if (syncs) await file.sync();
  const sequences = await readPages(file, path, stored, tag, tornCopy, (found) => {
    volume.loadPage(found.page, found.words);
    restsOn = Math.max(restsOn, found.restsOn);
    if (found.torn) torn.push({ page: found.page, words: found.words.slice() });
  });
  return { map: new MapFile(file, syncs, stored, tag, sequences), torn, restsOn };
}

/** Marks as the files have them: every block of a hot extent is dirty. Extents of volumes that are gone are left out. */
export function marksOf(
  geometries: readonly Geometry[],
  checked: CheckedOptions,
  identity: StoredIdentity,
  ring: RecoveredRing,
): Marks {
  const { newest, table } = ring;
  // Numbers of a line that the identity has left since say nothing about the new one.
  const isSameLine = newest.lineId === identity.line.id;
  const durable = Math.max(identity.durableNumber, identity.restsOn, isSameLine ? newest.durableNumber : 0);
  const last = Math.max(identity.lastNumber, isSameLine ? newest.lastNumber : 0);
  return new Marks(geometries, checked.granularityBytes, table.length, durable, last);
}

/** Puts the extents of the table into the marks; returns the slots of those that belong to no volume. */
export function restoreTable(marks: Marks, table: Uint32Array): number[] {
  const strangers: number[] = [];
  table.forEach((key, slot) => {
    if (key === NO_EXTENT) return;
    if (marks.isTracked(key)) marks.restoreHot(slot, key);
    else strangers.push(slot);
  });
  return strangers;
}
