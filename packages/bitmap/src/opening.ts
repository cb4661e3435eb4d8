/**
 * Opens a state directory that is locked: decides what the files found are worth, makes what is missing, puts aside
 * what is not ours, stores the new session.
 *
 *   found      when                                                     what is done
 *   new        no identity and no other file; or never finished making  all files made, every block marked
 *   untrusted  a file is missing, corrupt, foreign, of another          bad files put aside, all made anew,
 *              version or size, was not synced before the host was      every block marked
 *              started anew; or the identity, or the agent's doubt, says so
 *   clean      stopped in order without a mark                          read
 *   marked     else                                                     read; torn pages written again
 *
 * Always holds: until the new files are durable the identity says that nothing can be relied on; a directory of
 * another group or with an identity of a later version is refused before anything is changed.
 */
import {
  ConfigFault,
  CorruptionFault,
  type FileLock,
  type FileSystem,
  type Platform,
  randomUuid,
} from '@rephub/platform';
import {
  type CheckedOptions,
  type Geometry,
  geometryOf,
  NO_EXTENT,
  PAGE_BYTES,
  PAGE_HEADER_BYTES,
} from './geometry.js';
import { bootDoubt, keptAs } from './boot.js';
import { HOT_LOG_NAME, HotLog, type LogFacts, makeHotLog } from './hot-log.js';
import type { ReadIdentity, StoredIdentity } from './identity.js';
import { IDENTITY_NAME, IdentityFile, makeIdentity, readIdentity } from './identity-file.js';
import { setAside } from './set-aside.js';
import { fillAll, makeMap, MapFile, readMapHeader, readPages } from './map-file.js';
import { Marks } from './marks.js';
import { findNumbering, type Numbering } from './numbering.js';
import type { Found } from './options.js';
import {
  mapPath,
  marksOf,
  openMap,
  type OpenMap,
  readHotLog,
  readMap,
  type ReadMap,
  restoreTable,
} from './recovery.js';
import type { RecoveredRing } from './ring.js';
import { MAX_CHANGES } from './transaction.js';

export interface OpenedState {
  readonly lock: FileLock;
  readonly identity: IdentityFile;
  readonly log: HotLog;
  readonly maps: Map<number, MapFile>;
  readonly marks: Marks;
  readonly volumes: readonly Geometry[];
  /** Names that the directory knows, and that are not listed. */
  readonly away: readonly string[];
  readonly found: Found;
  readonly reason: string;
  readonly faults: readonly CorruptionFault[];
}

export interface StatePlace {
  readonly directory: string;
  readonly group: string;
}

type StatePlatform = Pick<Platform, 'files' | 'randomness'>;

/** Opens the locked directory; see the table above. Throws ConfigFault `state-foreign`, `wrong-size`; the lock is let go then. */
export async function openState(
  platform: StatePlatform,
  place: StatePlace,
  checked: CheckedOptions,
  lock: FileLock,
): Promise<OpenedState> {
  try {
    return { lock, ...(await new Opening(platform, place, checked).open()) };
  } catch (thrown) {
    await lock.release();
    throw thrown;
  }
}

/** What was found of the files besides the identity. */
interface Readable {
  readonly log: Awaited<ReturnType<typeof readHotLog>>;
  /** Maps of the volumes that this state knows. */
  readonly maps: readonly OpenMap[];
}

class Opening {
  readonly #files: FileSystem;
  readonly #platform: StatePlatform;
  readonly #place: StatePlace;
  #checked: CheckedOptions;
  #numbering: Numbering | null = null;
  readonly #syncs: boolean;
  readonly #faults: CorruptionFault[] = [];
  /** Files that are not what they should be. */
  readonly #bad = new Set<string>();

  constructor(platform: StatePlatform, place: StatePlace, checked: CheckedOptions) {
    this.#files = platform.files;
    this.#platform = platform;
    this.#place = place;
    this.#checked = checked;
    this.#syncs = checked.durability === 'host';
  }

  async open(): Promise<Omit<OpenedState, 'lock'>> {
    const read = (await this.#readIdentity()) ?? (await this.#makeIdentity());
    if (this.#checked.isNumberedByName) await this.#numberByName(read.identity);
    const { stage, trusted, clean, kept, notes } = read.identity;
    if (stage === 'made' && trusted) {
      const { bootId, durability } = this.#checked;
      const stale = clean ? null : bootDoubt(kept, durability, bootId);
      const doubt = stale ?? this.#checked.doubt(notes);
      if (doubt !== null) return await this.#startAnew(read, 'untrusted', doubt);
      const readable = await this.#readAll(read.identity);
      if (readable !== null) return await this.#takeOver(read, readable, clean);
    }
    if (stage === 'making' && trusted) return await this.#startAnew(read, 'new', 'no state was there');
    const reason = this.#faults[0]?.message ?? read.identity.reason;
    return await this.#startAnew(read, 'untrusted', reason);
  }

  /** Files that a killed process has made or renamed are where they are found, also after a power cut. */
  async #syncNames(): Promise<void> {
    if (this.#syncs) await this.#files.syncDirectory(this.#place.directory);
  }

  #path(name: string): string {
    return `${this.#place.directory}/${name}`;
  }

  /** Null when there is none that can be used; a corrupt one has been put aside then. */
  async #readIdentity(): Promise<ReadIdentity | null> {
    const { directory, group } = this.#place;
    let read: ReadIdentity | null;
    try {
      read = await readIdentity(this.#files, this.#path(IDENTITY_NAME));
    } catch (thrown) {
      // A later version knows what we do not: refuse, so that going back to it loses nothing.
      if (!(thrown instanceof CorruptionFault) || thrown.code === 'identity-version') throw thrown;
      await setAside(this.#files, this.#path(IDENTITY_NAME));
      this.#faults.push(thrown);
      return null;
    }
    if (read !== null && read.identity.group !== group) {
      throw new ConfigFault(
        'state-foreign',
        `--state: ${directory} belongs to group ${read.identity.group}; give group ${group} a directory of its own`,
      );
    }
    return read;
  }

  async #makeIdentity(): Promise<ReadIdentity> {
    const names = await this.#files.list(this.#place.directory);
    const orphans = names.filter((name) => name === HOT_LOG_NAME || name.endsWith('.map'));
    if (orphans.length > 0 && this.#faults.length === 0) {
      const message = `${this.#path(IDENTITY_NAME)} is missing, ${orphans.join(', ')} are there`;
      this.#faults.push(new CorruptionFault('identity-missing', message));
    }
    for (const name of orphans) this.#bad.add(this.#path(name));
    const { randomness } = this.#platform;
    return await makeIdentity(this.#files, this.#path(IDENTITY_NAME), {
      agentId: randomUuid(randomness),
      session: 0,
      group: this.#place.group,
      line: { id: randomUuid(randomness), parent: null },
      lastNumber: 0,
      restsOn: 0,
      durableNumber: 0,
      notes: {},
      stage: 'making',
      trusted: this.#faults.length === 0,
      reason: shorten(this.#faults[0]?.message ?? ''),
      clean: false,
      volumes: [],
      kept: this.#keptAs,
    });
  }

  get #keptAs(): string {
    return keptAs(this.#checked.durability, this.#checked.bootId);
  }

  /** From here on each volume has the number that belongs to its name in this directory. */
  async #numberByName(identity: StoredIdentity): Promise<void> {
    const { volumes } = this.#checked;
    const names = volumes.map(({ name }) => name);
    const numbering = await findNumbering(this.#files, this.#place.directory, identity, names);
    const numbered = volumes.map((volume) => ({
      ...volume,
      index: numbering.numbers.get(volume.name) ?? volume.index,
    }));
    this.#checked = { ...this.#checked, volumes: numbered };
    this.#numbering = numbering;
  }

  /** Opens hot.log and the maps; null when one of them cannot be relied on: the faults say why. */
  async #readAll(identity: StoredIdentity): Promise<Readable | null> {
    const maps: OpenMap[] = [];
    const logs: Readable['log'][] = [];
    const closeAll = async (): Promise<void> => {
      for (const { file } of maps) await file.close();
      for (const { file } of logs) await file.close();
    };
    try {
      for (const geometry of this.#checked.volumes) {
        await this.#noting(mapPath(this.#place.directory, geometry.name), async () => {
          const map = await openMap(this.#files, this.#place.directory, identity, geometry, this.#checked.mayShrink);
          if (map !== null) maps.push(map);
        });
      }
      await this.#noting(this.#path(HOT_LOG_NAME), async () => {
        logs.push(await readHotLog(this.#files, this.#place.directory, identity.agentId));
      });
    } catch (thrown) {
      await closeAll();
      throw thrown;
    }
    const [log] = logs;
    if (log !== undefined && this.#faults.length === 0) return { log, maps };
    await closeAll();
    return null;
  }

  /** Runs `read`; what is corrupt is noted, so that the other files are looked at too. */
  async #noting(path: string, read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch (thrown) {
      if (!(thrown instanceof CorruptionFault)) throw thrown;
      this.#faults.push(thrown);
      this.#bad.add(path);
    }
  }

  // ---- files that can be relied on

  async #takeOver(read: ReadIdentity, readable: Readable, clean: boolean): Promise<Omit<OpenedState, 'lock'>> {
    const { ring, file: logFile } = readable.log;
    const { volumes } = this.#checked;
    const marks = marksOf(volumes, this.#checked, read.identity, ring);
    const opened: OpenMap[] = [];
    const readMaps: ReadMap[] = [];
    for (const found of readable.maps) {
      await this.#noting(found.path, async () => {
        const map = await this.#withTodaysGranularity(found, read.identity, ring);
        opened.push(map);
        readMaps.push(await readMap(map, marks, ring, this.#syncs));
      });
    }
    if (this.#faults.length > 0) {
      await logFile.close();
      for (const { file } of [...opened, ...readable.maps]) await file.close();
      return await this.#startAnew(read, 'untrusted', this.#faults[0]?.message ?? '');
    }
    const restsOn = Math.max(0, ...readMaps.map((map) => map.restsOn));
    marks.setNumbers(Math.max(marks.durableNumber, restsOn), Math.max(marks.lastNumber, restsOn));
    const strangers = restoreTable(marks, ring.table);

    await this.#syncNames();
    await this.#numbering?.store();
    const identity = await this.#openIdentity(read);
    // What has gone is not known from here on: a crash before its map has gone too must not let it be taken for whole.
    const kept = read.identity.volumes.filter((index) => volumes.some((volume) => volume.index === index));
    // Before anything is written and not synced; what a killed process has left so is synced below.
    const unsynced = this.#syncs ? {} : { kept: this.#keptAs };
    await identity.save({ session: read.identity.session + 1, clean: false, volumes: kept, ...unsynced });
    for (const map of readMaps) await repair(map, marks.durableNumber);
    const maps = new Map(readMaps.map(({ map }) => [map.geometry.index, map]));
    for (const geometry of volumes.filter(({ index }) => !maps.has(index))) {
      maps.set(geometry.index, await this.#makeMarkedMap(read.identity.agentId, geometry, marks.durableNumber));
      marks.volume(geometry.index).bits.set(0, geometry.blocks);
    }
    await this.#dropOtherMaps();
    await identity.save({ volumes: volumes.map(({ index }) => index) });

    const log = new HotLog(logFile, this.#syncs, ring.table, ring.newest.sequence);
    const facts = factsOf(identity.stored, marks);
    // At least one: it takes the announcement away, is whole in both copies, and its sync makes durable what a
    // killed process left unsynced in this file (as saving did for the identity, and reading for the maps).
    do {
      const changes = strangers.splice(0, MAX_CHANGES).flatMap((slot) => [slot, NO_EXTENT]);
      await log.append(changes, [], facts);
    } while (strangers.length > 0);
    if (identity.stored.kept !== this.#keptAs) await identity.save({ kept: this.#keptAs });

    const isClean = clean && !marks.hasMarks();
    const reason = isClean
      ? 'stopped in order'
      : clean
        ? 'a volume is new'
        : 'not stopped in order, or with marks left';
    const state = { identity, log, maps, marks, volumes, away: this.#numbering?.away ?? [], reason };
    return { ...state, found: isClean ? 'clean' : 'marked', faults: [] };
  }

  /** The map as it is, or, when its granularity is another, made anew with its marks. */
  async #withTodaysGranularity(found: OpenMap, identity: StoredIdentity, ring: RecoveredRing): Promise<OpenMap> {
    const { granularityBytes } = this.#checked;
    if (found.stored.granularityBytes === granularityBytes) return found;
    const old = new Marks([found.stored], found.stored.granularityBytes, 16, 0, 0);
    const { restsOn } = await readMap(found, old, ring, this.#syncs);
    await found.file.close();

    const geometry = geometryOf(found.stored, granularityBytes);
    const now = new Marks([geometry], granularityBytes, 16, 0, 0);
    for (const run of old.runs(geometry.index)) now.setDirty(geometry.index, run.offset, run.length);
    const volume = now.volume(geometry.index);
    await makeMap(this.#files, found.path, identity.agentId, geometry, restsOn, (page, words) => {
      now.composePages([{ volume, page, words }]);
    });
    const file = await this.#files.open(found.path, 'write');
    const { tag } = await readMapHeader(file, found.path, identity.agentId);
    return { ...found, file, tag, stored: geometry };
  }

  // ---- files that cannot

  /** Everything anew, every block marked. */
  async #startAnew(read: ReadIdentity, found: 'new' | 'untrusted', reason: string): Promise<Omit<OpenedState, 'lock'>> {
    const { identity: old } = read;
    await this.#refuseWrongSizes(old);
    await this.#syncNames();
    await this.#numbering?.store();
    const identity = await this.#openIdentity(read);
    await identity.save({
      session: old.session + 1,
      clean: false,
      ...(found === 'untrusted' ? { trusted: false, reason: shorten(reason) } : {}),
    });
    for (const path of this.#bad) if ((await this.#files.status(path)) !== null) await setAside(this.#files, path);

    const { volumes, granularityBytes, hotExtents } = this.#checked;
    const marks = new Marks(
      volumes,
      granularityBytes,
      hotExtents,
      Math.max(old.durableNumber, old.restsOn),
      old.lastNumber,
    );
    const maps = new Map<number, MapFile>();
    for (const geometry of volumes) {
      maps.set(geometry.index, await this.#makeMarkedMap(old.agentId, geometry, marks.durableNumber));
      marks.volume(geometry.index).bits.set(0, geometry.blocks);
    }
    const facts = factsOf(identity.stored, marks);
    const { table, sequence } = await makeHotLog(this.#files, this.#path(HOT_LOG_NAME), hotExtents, facts);
    const file = await this.#files.open(this.#path(HOT_LOG_NAME), 'write');
    const log = new HotLog(file, this.#syncs, table, sequence);
    await this.#dropOtherMaps();
    await identity.save({
      ...{ stage: 'made', trusted: true, reason: '', kept: this.#keptAs },
      volumes: volumes.map(({ index }) => index),
    });
    const state = { identity, log, maps, marks, volumes, away: this.#numbering?.away ?? [], reason };
    return { ...state, found, faults: this.#faults };
  }

  /**
   * Nobody sees from now on who writes to a volume that is not tracked: what its map says is worth nothing when it comes
   * back, though another volume had its number meanwhile and the identity knows the number.
   */
  async #dropOtherMaps(): Promise<void> {
    const { directory } = this.#place;
    const tracked = new Set(this.#checked.volumes.map(({ name }) => mapPath(directory, name)));
    const others = (await this.#files.list(directory))
      .filter((name) => name.endsWith('.map'))
      .map((name) => this.#path(name))
      .filter((path) => !tracked.has(path));
    for (const path of others) await this.#files.remove(path);
    if (others.length > 0) await this.#files.syncDirectory(directory);
  }

  /** A known volume that has shrunk is refused even when nothing else of the state can be used. */
  async #refuseWrongSizes(identity: StoredIdentity): Promise<void> {
    for (const geometry of this.#checked.volumes) {
      try {
        const map = await openMap(this.#files, this.#place.directory, identity, geometry, this.#checked.mayShrink);
        await map?.file.close();
      } catch (thrown) {
        if (!(thrown instanceof CorruptionFault)) throw thrown;
      }
    }
  }

  async #makeMarkedMap(agentId: string, geometry: Geometry, restsOn: number): Promise<MapFile> {
    const path = mapPath(this.#place.directory, geometry.name);
    await makeMap(this.#files, path, agentId, geometry, restsOn, fillAll(geometry));
    const file = await this.#files.open(path, 'write');
    const { tag } = await readMapHeader(file, path, agentId);
    const sequences = await readPages(
      file,
      path,
      geometry,
      tag,
      () => null,
      () => undefined,
    );
    return new MapFile(file, this.#syncs, geometry, tag, sequences);
  }

  async #openIdentity(read: ReadIdentity): Promise<IdentityFile> {
    const file = await this.#files.open(this.#path(IDENTITY_NAME), 'write');
    return new IdentityFile(file, read);
  }
}

/** Torn copies are written again while the transaction that announced them is still the newest. */
async function repair({ map, torn }: ReadMap, restsOn: number): Promise<void> {
  for (const { page, words } of torn) {
    const image = Buffer.alloc(PAGE_BYTES);
    image.set(new Uint8Array(words.buffer), PAGE_HEADER_BYTES);
    await map.writePage(page, image, restsOn);
  }
  if (torn.length > 0) await map.sync();
}

/** What a transaction says besides its changes. Cleared marks may rest on anything that the hub has as durable. */
export function factsOf(identity: StoredIdentity, marks: Marks): LogFacts {
  return {
    agentId: identity.agentId,
    lineId: identity.line.id,
    restsOn: marks.durableNumber,
    durableNumber: marks.durableNumber,
    lastNumber: marks.lastNumber,
  };
}

function shorten(reason: string): string {
  return reason.length > 500 ? `${reason.slice(0, 499)}…` : reason;
}
