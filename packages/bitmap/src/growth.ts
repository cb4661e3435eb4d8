/**
 * A volume becomes larger while it is tracked: its map is made anew in full, with all marks and all that is new marked,
 * durably, and takes the place of the old one; only then the new size counts in memory.
 *
 * Always holds: a crash at any step finds the old map or the new one, whole; marks that are made meanwhile reach
 * whichever counts in the end. Must run alone: no page is written meanwhile.
 * Must not know: why it has grown.
 */
import { asError, type FileSystem } from '@rephub/platform';
import { type Geometry, PAGE_BLOCKS } from './geometry.js';
import { makeMap, type MapFile, openMadeMap, readMapHeader } from './map-file.js';
import type { Marks } from './marks.js';
import { mapPath } from './recovery.js';
import { addToPage, firstNewBlock } from './volume-marks.js';

export interface GrowthParts {
  readonly files: FileSystem;
  readonly directory: string;
  readonly agentId: string;
  readonly syncs: boolean;
  readonly marks: Marks;
  readonly maps: Map<number, MapFile>;
  /** The old map may be gone and the new one may not be there: nothing that is stored from here on can be relied on. */
  readonly failed: (error: Error) => void;
}

/**
 * `admitted` is called in the turn from which on the new size counts. Rejects when the map cannot be made; then, but for
 * `failed`, everything is as before.
 */
export async function growVolume(parts: GrowthParts, geometry: Geometry, admitted: () => void): Promise<void> {
  const { agentId, directory, files, maps, marks, syncs } = parts;
  const volume = marks.volume(geometry.index);
  const path = mapPath(directory, geometry.name);
  const from = firstNewBlock(volume.geometry);
  const pages = volume.geometry.pages;
  let made: MapFile;
  try {
    await makeMap(files, path, agentId, geometry, marks.durableNumber, (page, words) => {
      if (page < pages) marks.composePages([{ volume, page, words }]);
      if (from < (page + 1) * PAGE_BLOCKS) addToPage(words, page, from, geometry.blocks);
    });
    made = await openMadeMap(files, path, agentId, geometry, syncs);
  } catch (thrown) {
    const error = asError(thrown);
    // Composed pages count as being written, which they are not: they are written again when it matters.
    volume.flagAdded(0, volume.geometry.blocks);
    if ((await sizeInPlace(files, path, agentId)) !== volume.geometry.sizeBytes) parts.failed(error);
    throw error;
  }
  const old = maps.get(geometry.index);
  maps.set(geometry.index, made);
  for (let page = 0; page < pages; page += 1) volume.pageWritten(page);
  volume.grow(geometry);
  admitted();
  await old?.close();
}

/** The size of the volume that the map in place is of; null when nobody knows. */
async function sizeInPlace(files: FileSystem, path: string, agentId: string): Promise<number | null> {
  try {
    const file = await files.open(path, 'read');
    try {
      return (await readMapHeader(file, path, agentId)).header.sizeBytes;
    } finally {
      await file.close();
    }
  } catch {
    return null;
  }
}
