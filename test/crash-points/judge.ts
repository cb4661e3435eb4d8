/**
 * What a crash has left, judged by the promises: the agent's marks are recovered by the real bitmap code, the hub's
 * journal by the real storage code, each on a copy of the disk, and compared with what was overheard on the wire.
 */
import { Tracker } from '@rephub/bitmap';
import { openGroupStore } from '@rephub/hub';
import { readSmallFile, silentLogger } from '@rephub/platform';
import { SeededRandomness, SimClock, type SimFiles, pureLz4 } from '@rephub/platform/sim';
import type { Guest } from './guest.js';
import {
  BLOCK,
  differingBlocks,
  emptyPages,
  firstDifference,
  pagesOfDevice,
  pagesOfFile,
  type Pages,
} from './pages.js';
import type { RecordName, Wire } from './wire.js';

const BLOCKS_PER_EXTENT = 64;

export interface JudgedVolume {
  readonly name: string;
  readonly sizeBytes: number;
}

/** What the next hub would find in a data directory; null when it does not know the group. */
export interface HubFinding {
  readonly last: RecordName;
  readonly consistentNumber: number | null;
}

/** Opens what is on a hub's disk, and compares it with what was sent. Throws with the promise that is broken. */
export async function judgeHub(files: SimFiles, wire: Wire, hadConsistent: boolean): Promise<HubFinding | null> {
  const copy = files.imagineCrash({ seed: 1, fate: 'keep' });
  const identity = await readSmallFile(copy, '/data/hub.json');
  if (identity === null || (await copy.status('/data/groups/vm1')) === null) {
    if (wire.durable > 0) throw new Error(`DURABLE: ${wire.durable} was acknowledged, the group is not there`);
    return null;
  }
  const { hubId } = JSON.parse(identity.toString()) as { hubId: string };
  const store = await openGroupStore(
    { clock: new SimClock(), files: copy, randomness: new SeededRandomness(1), codecs: [pureLz4] },
    { directory: '/data/groups/vm1', group: 'vm1', hubId, retentionMs: 0, indexBytes: 1 << 20, log: silentLogger },
  );
  const { lastNumber, lastChecksum, consistentNumber, corrupted, line } = store.state;
  if (corrupted !== null) throw new Error(`TORN: what a crash left is taken for corruption: ${corrupted}`);
  if (lastNumber < wire.durable) {
    throw new Error(`DURABLE: ${wire.durable} was acknowledged, the hub has ${lastNumber}`);
  }
  if (hadConsistent && consistentNumber === null) throw new Error('LASTGOOD: no point can be opened any more');
  if (line === null) return null;
  wire.noteLine(line.id);
  const last = { number: lastNumber, checksum: lastChecksum };
  if (consistentNumber !== null) {
    const view = await store.openView();
    const expected = wire.foldAt(last, view.number);
    for (const { index, name } of view.volumes) {
      const found = firstDifference(await pagesOfDevice(view.device(name)), expected.get(index) ?? new Uint32Array(0));
      if (found !== null) throw new Error(`PIT: at ${view.number} ${name} is not what was sent: ${found}`);
    }
    await view.close();
  }
  return { last, consistentNumber };
}

/** A volume as the next agent would find it. */
interface FoundMarks {
  /** Its number in records. */
  readonly index: number;
  readonly blocks: ReadonlySet<number>;
}

/** Marked blocks of each volume; null when there is no state yet. */
async function marksOf(files: SimFiles, volumes: readonly JudgedVolume[]): Promise<FoundMarks[] | null> {
  const copy = files.imagineCrash({ seed: 1, fate: 'keep' });
  if ((await copy.status('/state/identity')) === null) return null;
  const tracker = await Tracker.open(
    { files: copy, clock: new SimClock(), randomness: new SeededRandomness(1) },
    {
      directory: '/state',
      group: 'vm1',
      granularityBytes: BLOCK,
      hotExtents: 16,
      volumes,
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    },
  );
  if (tracker.found === 'untrusted') throw new Error(`NOFULL: marks are not trusted: ${tracker.foundReason}`);
  return volumes.map(({ name }) => {
    const index = tracker.indexOf(name);
    const blocks = new Set<number>();
    for (const { offset, length } of tracker.runs(index)) {
      for (let at = offset; at < offset + length; at += BLOCK) blocks.add(at / BLOCK);
    }
    return { index, blocks };
  });
}

/** The volume whose marks are looked at for those that nothing has made. */
const FIRST_VOLUME = 'disk0';

export interface AgentRemains {
  readonly files: SimFiles;
  readonly hubFiles: SimFiles;
  readonly volumes: readonly JudgedVolume[];
  readonly guests: readonly Guest[];
  readonly wire: Wire;
  /** Else only the process has died. */
  readonly afterPowerCut: boolean;
  readonly hadConsistent: boolean;
  /** Extents of the first volume that may be marked; null: any. */
  readonly mayBeMarked: ReadonlySet<number> | null;
}

/** What an agent left, against everything that a hub may hold then: what is synced there, and what is only written. */
export async function judgeAgent(remains: AgentRemains): Promise<void> {
  const { files, hubFiles, volumes, guests, wire, mayBeMarked } = remains;
  const upstream = upstreamOf(files, volumes);
  for (const [index, pages] of upstream.entries()) {
    const missing = guests[index]?.missing(pages, remains.afterPowerCut) ?? null;
    if (missing !== null) throw new Error(`FLUSH: ${missing} of volume ${index} was answered, and is lost`);
  }
  const marks = await marksOf(files, volumes);
  if (marks === null) return;
  for (const fate of ['lose', 'keep'] as const) {
    const hub = await judgeHub(hubFiles.imagineCrash({ seed: 1, fate }), wire, remains.hadConsistent);
    if (hub !== null) judgeMarks(upstream, marks, wire.foldAt(hub.last), `from what the hub would ${fate}`);
  }
  if (mayBeMarked === null) return;
  for (const block of marks[volumes.findIndex(({ name }) => name === FIRST_VOLUME)]?.blocks ?? []) {
    if (!mayBeMarked.has(Math.floor(block / BLOCKS_PER_EXTENT))) {
      throw new Error(`NOFULL: block ${block} is marked, and nothing was done there`);
    }
  }
}

/** SUPERSET: every block in which upstream and the hub differ is marked. Throws with the first that is not. */
function judgeMarks(
  upstream: readonly Pages[],
  marks: readonly FoundMarks[],
  replica: ReadonlyMap<number, Pages>,
  note: string,
): void {
  for (const [at, { index, blocks }] of marks.entries()) {
    // A volume that the hub does not know is copied whole.
    const held = replica.get(index);
    if (held === undefined) continue;
    for (const block of differingBlocks(upstream[at] ?? emptyPages(0), held)) {
      if (!blocks.has(block)) {
        throw new Error(`SUPERSET: block ${block} of volume ${index} differs ${note} and is not marked`);
      }
    }
  }
}

/** What the raw files of the volumes hold. */
export function upstreamOf(files: SimFiles, volumes: readonly JudgedVolume[]): Pages[] {
  return volumes.map(({ name, sizeBytes }) => pagesOfFile(files, `/${name}.raw`, sizeBytes));
}
