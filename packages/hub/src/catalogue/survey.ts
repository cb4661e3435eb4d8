/** Finds a group's journal files by name and size, without opening one: what the catalogue lists. */
import type { FileSystem } from '@rephub/platform';
import type { SegmentEntry } from './catalogue.js';

/** `directory` is DATA/groups/GROUP. Files that vanish meanwhile are left out. */
export async function surveySegments(files: FileSystem, directory: string): Promise<SegmentEntry[]> {
  const found: SegmentEntry[] = [];
  const lines = `${directory}/lines`;
  if ((await files.status(lines)) === null) return found;
  for (const line of await files.list(lines)) {
    const status = await files.status(`${lines}/${line}`);
    if (status?.kind !== 'directory') continue;
    for (const file of await files.list(`${lines}/${line}`)) {
      if (!file.endsWith('.seg')) continue;
      const segment = await files.status(`${lines}/${line}/${file}`);
      if (segment !== null) found.push({ line, file, sizeBytes: segment.sizeBytes });
    }
  }
  return found;
}
