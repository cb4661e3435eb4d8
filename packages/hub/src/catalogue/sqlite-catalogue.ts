/**
 * The catalogue in DATA/catalogue.sqlite. Writes are kept back and go out together, one transaction per
 * flush; `synchronous = NORMAL`, since nothing here is ever acknowledged to anybody.
 *
 * Always holds: a file that is damaged, foreign or of another version is set aside (renamed, one is kept) and a new one
 * begun; one that cannot be opened for want of room, or as the disk fails, stays and the hub runs without; a failure later
 * on closes the catalogue for good and is told once; the hub goes on.
 *
 * Nothing of it is mapped into memory: on a full disk a mapped file is a SIGBUS. So one process has it to itself (the
 * data directory is locked), which keeps SQLite's wal-index out of a `-shm` file.
 */
import { asError, type Clock, type FileSystem, type Timer } from '@rephub/platform';
import Database from 'better-sqlite3';
import type { GroupState } from '../storage/index.js';
import { type Catalogue, noCatalogue, type SegmentEntry, type TestEntry } from './catalogue.js';

const SCHEMA_VERSION = 2;
const FLUSH_AFTER_MS = 1000;
/** Beside `groups`. */
const OF_A_GROUP = ['volumes', 'generations', 'segments', 'tests'] as const;
/** How a test ended that was open when its hub was killed; when that was is not known better than by the next start. */
const ENDED_WITH_THE_HUB = 'the hub ended without a word';

const SCHEMA = `
  CREATE TABLE groups (
    name TEXT PRIMARY KEY, line TEXT, owner TEXT, last_number INTEGER NOT NULL, durable_number INTEGER NOT NULL,
    consistent_number INTEGER, applied_number INTEGER NOT NULL, journal_bytes INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE volumes (
    group_name TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    PRIMARY KEY (group_name, name)
  ) STRICT;
  CREATE TABLE generations (
    group_name TEXT NOT NULL, line TEXT NOT NULL, parent TEXT, parent_number INTEGER, active INTEGER NOT NULL,
    PRIMARY KEY (group_name, line)
  ) STRICT;
  CREATE TABLE segments (
    group_name TEXT NOT NULL, line TEXT NOT NULL, file TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    PRIMARY KEY (group_name, line, file)
  ) STRICT;
  CREATE TABLE tests (
    group_name TEXT NOT NULL, name TEXT NOT NULL, opened_ms INTEGER NOT NULL, number INTEGER NOT NULL,
    ended_ms INTEGER, how TEXT, PRIMARY KEY (group_name, name, opened_ms)
  ) STRICT;
`;

export interface SqliteCatalogueOptions {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly path: string;
  /** Opens or makes the database; the file of `path` when left out. */
  readonly connect?: (path: string) => Database.Database;
  /** Tells that the file was set aside, or that the catalogue is given up, and why. */
  readonly trouble: (event: 'catalogue-set-aside' | 'catalogue-failed', message: string) => void;
}

/** Opens the catalogue, or begins a new one; without a usable file the hub runs without. Never throws. */
export async function openSqliteCatalogue(options: SqliteCatalogueOptions): Promise<Catalogue> {
  try {
    return new SqliteCatalogue(openChecked(options), options);
  } catch (cause) {
    if (isOfTheDisk(cause)) return without(options, cause);
    const aside = `${options.path}.damaged-${new Date(options.clock.unixMs()).toISOString().replace(/[:.]/g, '-')}`;
    options.trouble(
      'catalogue-set-aside',
      `${options.path}: ${asError(cause).message}; kept as ${aside}, a new one is made`,
    );
    try {
      await removeAsides(options);
      if ((await options.files.status(options.path)) !== null) await options.files.rename(options.path, aside);
      // A log of the old file would be played into the new one.
      await options.files.remove(`${options.path}-wal`);
      await options.files.remove(`${options.path}-shm`);
      return new SqliteCatalogue(openChecked(options), options);
    } catch (again) {
      return without(options, again);
    }
  }
}

function without({ path, trouble }: SqliteCatalogueOptions, cause: unknown): Catalogue {
  trouble('catalogue-failed', `${path}: ${asError(cause).message}; the hub runs without it`);
  return noCatalogue();
}

/** Full, or failing: that says nothing against the file. */
function isOfTheDisk(cause: unknown): boolean {
  return cause instanceof Database.SqliteError && /^SQLITE_(FULL|IOERR|CANTOPEN|READONLY|NOMEM)/.test(cause.code);
}

/** Those of before: a catalogue is an index only, and one is enough to look at. */
async function removeAsides({ files, path }: SqliteCatalogueOptions): Promise<void> {
  const cut = path.lastIndexOf('/');
  const directory = path.slice(0, cut);
  const prefix = `${path.slice(cut + 1)}.damaged-`;
  for (const name of await files.list(directory)) {
    if (name.startsWith(prefix)) await files.remove(`${directory}/${name}`);
  }
}

function openChecked({ path, connect }: SqliteCatalogueOptions): Database.Database {
  const database = connect === undefined ? new Database(path, { timeout: 1000 }) : connect(path);
  try {
    database.pragma('mmap_size = 0');
    // Before the log is first used: from then on its index is kept in memory of our own.
    database.pragma('locking_mode = EXCLUSIVE');
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    const version = Number(database.pragma('user_version', { simple: true }));
    const tables = database.prepare('SELECT count(*) AS n FROM sqlite_master').get() as { n: number };
    if (version === 0 && tables.n === 0) {
      database.exec(SCHEMA);
      database.pragma(`user_version = ${SCHEMA_VERSION}`);
    } else if (version === 1) {
      // Events have a file of their own since.
      database.exec('DROP TABLE IF EXISTS events');
      database.pragma(`user_version = ${SCHEMA_VERSION}`);
    } else if (version !== SCHEMA_VERSION) {
      throw new Error(`it has version ${version}, expected ${SCHEMA_VERSION}`);
    }
    const sound: unknown = database.pragma('quick_check', { simple: true });
    if (sound !== 'ok') throw new Error(`it is damaged: ${String(sound)}`);
    return database;
  } catch (cause) {
    database.close();
    throw cause;
  }
}

type Write = (database: Database.Database) => void;

class SqliteCatalogue implements Catalogue {
  readonly #options: SqliteCatalogueOptions;
  #database: Database.Database | null;
  #waiting: Write[] = [];
  #timer: Timer | null = null;

  constructor(database: Database.Database, options: SqliteCatalogueOptions) {
    this.#options = options;
    this.#database = database;
  }

  begun(groups: readonly string[]): void {
    const there = new Set(groups);
    const now = Math.floor(this.#options.clock.unixMs());
    this.#later((database) => {
      for (const group of namesIn(database)) if (!there.has(group)) forget(database, group);
      database.prepare('UPDATE tests SET ended_ms = ?, how = ? WHERE ended_ms IS NULL').run(now, ENDED_WITH_THE_HUB);
    });
  }

  group(state: GroupState, segments: readonly SegmentEntry[]): void {
    this.#later((database) => {
      writeGroup(database, state);
      writeGenerations(database, state, segments);
      writeSegments(database, state.group, segments);
    });
  }

  forgotten(group: string): void {
    this.#later((database) => {
      forget(database, group);
    });
  }

  test(entry: TestEntry): void {
    this.#later((database) => {
      database
        .prepare('INSERT OR REPLACE INTO tests VALUES (?, ?, ?, ?, ?, ?)')
        .run(
          entry.group,
          entry.name,
          Math.floor(entry.openedUnixMs),
          entry.seq,
          entry.endedUnixMs === null ? null : Math.floor(entry.endedUnixMs),
          entry.end,
        );
    });
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const database = this.#database;
    const writes = this.#waiting;
    this.#waiting = [];
    if (database === null || writes.length === 0) return;
    try {
      database.transaction(() => {
        for (const write of writes) write(database);
      })();
    } catch (cause) {
      this.#database = null;
      database.close();
      this.#options.trouble(
        'catalogue-failed',
        `${this.#options.path}: ${asError(cause).message}; rebuilt at the next start`,
      );
    }
  }

  close(): void {
    this.flush();
    this.#database?.close();
    this.#database = null;
  }

  #later(write: Write): void {
    if (this.#database === null) return;
    this.#waiting.push(write);
    this.#timer ??= this.#options.clock.after(FLUSH_AFTER_MS, () => this.flush());
  }
}

/** Every group that any table names. */
function namesIn(database: Database.Database): string[] {
  const tables = OF_A_GROUP.map((table) => `SELECT group_name AS name FROM ${table}`);
  const rows = database.prepare(['SELECT name FROM groups', ...tables].join(' UNION ')).all() as { name: string }[];
  return rows.map(({ name }) => name);
}

function forget(database: Database.Database, group: string): void {
  for (const table of OF_A_GROUP) database.prepare(`DELETE FROM ${table} WHERE group_name = ?`).run(group);
  database.prepare('DELETE FROM groups WHERE name = ?').run(group);
}

function writeGroup(database: Database.Database, state: GroupState): void {
  database
    .prepare('INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
    .run(
      state.group,
      state.line?.id ?? null,
      state.owner?.agentId ?? null,
      state.lastNumber,
      state.durableNumber,
      state.consistentNumber,
      state.appliedNumber,
      state.journalBytes,
    );
  database.prepare('DELETE FROM volumes WHERE group_name = ?').run(state.group);
  const addVolume = database.prepare('INSERT INTO volumes VALUES (?, ?, ?, ?)');
  for (const volume of state.volumes) addVolume.run(state.group, volume.name, volume.index, volume.sizeBytes);
}

/** The active line with its parent, and the lines that only the directory knows. */
function writeGenerations(database: Database.Database, state: GroupState, segments: readonly SegmentEntry[]): void {
  database.prepare('DELETE FROM generations WHERE group_name = ?').run(state.group);
  const add = database.prepare('INSERT OR IGNORE INTO generations VALUES (?, ?, ?, ?, ?)');
  if (state.line !== null) {
    add.run(state.group, state.line.id, state.line.parent?.id ?? null, state.line.parent?.number ?? null, 1);
  }
  for (const segment of segments) add.run(state.group, segment.line, null, null, 0);
}

function writeSegments(database: Database.Database, group: string, segments: readonly SegmentEntry[]): void {
  database.prepare('DELETE FROM segments WHERE group_name = ?').run(group);
  const addSegment = database.prepare('INSERT INTO segments VALUES (?, ?, ?, ?)');
  for (const segment of segments) addSegment.run(group, segment.line, segment.file, segment.sizeBytes);
}
