/**
 * Looks at a state directory without opening it for use: for tests of what an agent leaves there. Takes no lock and
 * changes nothing; while an agent runs, what it says may be torn (and then be called untrusted).
 */
import { CorruptionFault, type FileSystem } from '@rephub/platform';
import { geometryOf } from './geometry.js';
import { IDENTITY_NAME, readIdentity } from './identity-file.js';
import { readMapHeader } from './map-file.js';
import { Marks } from './marks.js';
import type { Found, Identity, TrackedVolume } from './options.js';
import { readHotLog, readMap, restoreTable } from './recovery.js';
import type { RecoveredRing } from './ring.js';

export interface InspectedState {
  readonly identity: Identity;
  /** What an agent would find if it started now. */
  readonly found: Found;
  readonly reason: string;
  readonly hotExtents: number;
  /** Empty when nothing can be relied on. */
  readonly volumes: readonly (TrackedVolume & { readonly markedBytes: number })[];
}

/** Null when there is no state. Throws CorruptionFault `identity-corrupt`, `identity-version`; StorageFault. */
export async function inspectState(files: FileSystem, directory: string): Promise<InspectedState | null> {
  const read = await readIdentity(files, `${directory}/${IDENTITY_NAME}`);
  if (read === null) return null;
  const { stage, trusted, reason, clean, volumes: known, ...identity } = read.identity;
  const nothing = { identity, hotExtents: 0, volumes: [] };
  if (!trusted) return { ...nothing, found: 'untrusted', reason };
  if (stage === 'making') return { ...nothing, found: 'new', reason: 'never finished making' };
  try {
    const log = await readHotLog(files, directory, identity.agentId, 'read');
    await log.file.close();
    const volumes: InspectedState['volumes'][number][] = [];
    for (const name of await files.list(directory)) {
      if (!name.endsWith('.map')) continue;
      const volume = await inspectMap(files, `${directory}/${name}`, identity.agentId, known, log.ring);
      if (volume !== null) volumes.push(volume);
    }
    if (volumes.length < known.length) throw new CorruptionFault('map-missing', `${directory}: a map is missing`);
    const hotExtents = log.ring.table.filter((key) => known.includes(key >>> 24)).length;
    return {
      identity,
      found: clean ? 'clean' : 'marked',
      reason: clean ? 'stopped in order' : 'not stopped in order, or with marks left',
      hotExtents,
      volumes: volumes.sort((a, b) => a.index - b.index),
    };
  } catch (thrown) {
    if (!(thrown instanceof CorruptionFault)) throw thrown;
    return { ...nothing, found: 'untrusted', reason: thrown.message };
  }
}

async function inspectMap(
  files: FileSystem,
  path: string,
  agentId: string,
  known: readonly number[],
  ring: RecoveredRing,
): Promise<InspectedState['volumes'][number] | null> {
  const file = await files.open(path, 'read');
  try {
    const { header, tag } = await readMapHeader(file, path, agentId);
    if (!known.includes(header.index)) return null;
    const stored = geometryOf(header, header.granularityBytes);
    const marks = new Marks([stored], stored.granularityBytes, ring.table.length, 0, 0);
    await readMap({ file, path, tag, stored }, marks, ring, false);
    restoreTable(marks, ring.table);
    const { index, name, sizeBytes } = header;
    return { index, name, sizeBytes, markedBytes: marks.dirtyBytes };
  } finally {
    await file.close();
  }
}
