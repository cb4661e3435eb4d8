/**
 * What a start would find after a crash: the agent's marks and the hub's journal, recovered by the real code from a copy of
 * the disk, in no time and without touching the run.
 */
import { Standing } from '@rephub/agent';
import { openGroupStore } from '@rephub/hub';
import { type Found, Tracker } from '@rephub/bitmap';
import { silentLogger } from '@rephub/platform';
import { SeededRandomness, SimClock, type SimFiles, pureLz4 } from '@rephub/platform/sim';
import { type Hello } from '@rephub/protocol';
import { BLOCK_BYTES } from './block-content.js';
import { type GroupStore } from './hub-types.js';
import { type World } from './world.js';

export interface FoundMarks {
  readonly found: Found;
  readonly reason: string;
  readonly line: string;
  /** Its part of Hello: the session that would begin now, and those that it knows of. */
  readonly session: Pick<Hello, 'session' | 'nonce' | 'earlierSessions'>;
  readonly restsOn: number;
  readonly durableNumber: number;
  /** Per volume: is this block marked? */
  readonly marked: readonly Uint8Array[];
  readonly markedBytes: number;
}

/** `files` is a disk of its own (imagineCrash). Null when there is no state to open. */
export async function findMarks(world: World, files: SimFiles): Promise<FoundMarks | null> {
  const { setup, volumeCount } = world;
  if ((await files.status('/state/identity')) === null) return null;
  const tracker = await Tracker.open(
    { clock: new SimClock(), files, randomness: new SeededRandomness(setup.seed) },
    {
      directory: '/state',
      group: 'vm1',
      granularityBytes: setup.granularityBytes,
      hotExtents: setup.hotExtents,
      durability: setup.durability,
      bootId: files.bootId,
      volumes: setup.volumes
        .slice(0, volumeCount)
        .map(({ name }, index) => ({ index, name, sizeBytes: world.blocksOf(index) * BLOCK_BYTES })),
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    },
  );
  let markedBytes = 0;
  const marked = setup.volumes.slice(0, volumeCount).map((_, index) => {
    const map = new Uint8Array(world.blocksOf(index));
    for (const { offset, length } of tracker.runs(index)) {
      map.fill(1, offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES);
      markedBytes += length;
    }
    return map;
  });
  const { line, session, restsOn, durableNumber } = tracker.identity;
  return {
    found: tracker.found,
    reason: tracker.foundReason,
    line: line.id,
    session: { session, nonce: '', earlierSessions: new Standing(tracker).earlierSessions },
    restsOn,
    durableNumber,
    marked,
    markedBytes,
  };
}

/** The group's storage as a hub would open it from this disk. Null when the group is not there. */
export async function findStore(files: SimFiles): Promise<GroupStore | null> {
  const directory = '/data/groups/vm1';
  if ((await files.status(`${directory}/decisions.log`)) === null) return null;
  return await openGroupStore(
    { clock: new SimClock(), files, randomness: new SeededRandomness(1), codecs: [pureLz4] },
    {
      directory,
      group: 'vm1',
      hubId: '00000000-0000-4000-8000-000000000000',
      retentionMs: 3_600_000,
      indexBytes: 64 << 20,
      log: silentLogger,
    },
  );
}

export interface DurableState {
  readonly line: string;
  /** The last session of the agent's that the hub has had. */
  readonly owner: GroupStore['state']['owner'];
  readonly number: number;
  /** What the hub's durable records make, whether or not it may be shown. */
  readonly fold: readonly Int32Array[];
}

/** What the hub is sure of now; null where there is nothing, or it is not known from the wire. */
export async function durableState(world: World): Promise<DurableState | null> {
  const store =
    world.store ??
    (world.hub.up === null ? await findStore(world.hub.files.imagineCrash({ seed: 1, fate: 'keep' })) : null);
  if (store === null) return null;
  const { line, lastNumber, lastChecksum, durableNumber, owner } = store.state;
  if (line === null) return null;
  const fold = world.records.foldAt(durableNumber, lastNumber, lastChecksum);
  return fold === null ? null : { line: line.id, owner, number: durableNumber, fold };
}
