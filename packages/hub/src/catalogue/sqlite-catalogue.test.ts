import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodePlatform } from '@rephub/platform/node';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { GroupState } from '../storage/index.js';
import type { Catalogue } from './catalogue.js';
import { openSqliteCatalogue } from './sqlite-catalogue.js';

let directory = '';
let troubles: string[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rephub-catalogue-'));
  troubles = [];
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const path = (): string => join(directory, 'catalogue.sqlite');

async function open(): Promise<Catalogue> {
  const { clock, files } = nodePlatform();
  return await openSqliteCatalogue({ clock, files, path: path(), trouble: (event) => troubles.push(event) });
}

function rows(sql: string): unknown[] {
  const database = new Database(path(), { readonly: true });
  try {
    return database.prepare(sql).all();
  } finally {
    database.close();
  }
}

const state = {
  group: 'vm1',
  line: { id: 'line-b', parent: { id: 'line-a', number: 7 } },
  owner: null,
  volumes: [{ index: 0, name: 'disk0', sizeBytes: 4096, unreadableBytes: 0 }],
  lastNumber: 10,
  durableNumber: 9,
  consistentNumber: null,
  appliedNumber: 3,
  journalBytes: 8192,
} as unknown as GroupState;

const tested = (name: string) => ({ group: 'vm1', name, openedUnixMs: 1, seq: 10, endedUnixMs: null, end: null });

test('what it is told is there after it was closed, and told again replaces it', async () => {
  const catalogue = await open();
  catalogue.group(state, [{ line: 'line-a', file: '0.seg', sizeBytes: 5 }]);
  catalogue.group(state, [{ line: 'line-b', file: '1.seg', sizeBytes: 6 }]);
  catalogue.test({ group: 'vm1', name: 't', openedUnixMs: 1, seq: 10, endedUnixMs: null, end: null });
  catalogue.test({ group: 'vm1', name: 't', openedUnixMs: 1, seq: 10, endedUnixMs: 2, end: 'dropped' });
  catalogue.close();
  expect(rows('SELECT name, line, last_number FROM groups')).toEqual([
    { name: 'vm1', line: 'line-b', last_number: 10 },
  ]);
  expect(rows('SELECT line, file FROM segments')).toEqual([{ line: 'line-b', file: '1.seg' }]);
  expect(rows('SELECT line, parent, active FROM generations')).toEqual([
    { line: 'line-b', parent: 'line-a', active: 1 },
  ]);
  expect(rows('SELECT name, how FROM tests')).toEqual([{ name: 't', how: 'dropped' }]);
  const again = await open();
  again.forgotten('vm1');
  again.close();
  expect(rows('SELECT * FROM groups')).toEqual([]);
  expect(rows('SELECT * FROM segments')).toEqual([]);
  expect(troubles).toEqual([]);
});

test('a start puts right what an older catalogue says: other groups are forgotten, and open tests have ended', async () => {
  const older = await open();
  older.group(state, [{ line: 'line-b', file: '1.seg', sizeBytes: 6 }]);
  older.group({ ...state, group: 'forgotten-since' }, [{ line: 'line-c', file: '2.seg', sizeBytes: 6 }]);
  older.test({ ...tested('t'), group: 'forgotten-since' });
  older.test(tested('open'));
  older.test({ ...tested('ended'), endedUnixMs: 2, end: 'dropped' });
  older.close();
  const catalogue = await open();
  catalogue.begun(['vm1', 'new']);
  catalogue.close();
  for (const table of ['volumes', 'generations', 'segments', 'tests']) {
    expect(rows(`SELECT DISTINCT group_name FROM ${table}`), table).toEqual([{ group_name: 'vm1' }]);
  }
  expect(rows('SELECT name FROM groups')).toEqual([{ name: 'vm1' }]);
  expect(rows('SELECT name, how FROM tests ORDER BY name')).toEqual([
    { name: 'ended', how: 'dropped' },
    { name: 'open', how: 'the hub ended without a word' },
  ]);
  expect(rows('SELECT name FROM tests WHERE ended_ms > 2')).toEqual([{ name: 'open' }]);
});

test('a damaged file is set aside, kept, and a new one begun', async () => {
  await writeFile(path(), Buffer.alloc(64 * 1024, 0x5a));
  const catalogue = await open();
  catalogue.test(tested('after'));
  catalogue.close();
  expect(troubles).toEqual(['catalogue-set-aside']);
  expect(rows('SELECT name FROM tests')).toEqual([{ name: 'after' }]);
  const names = await readdir(directory);
  expect(names.filter((name) => name.startsWith('catalogue.sqlite.damaged-'))).toHaveLength(1);
});

test('of the files that were set aside one is kept', async () => {
  await writeFile(`${path()}.damaged-2001-01-01T00-00-00-000Z`, 'older');
  await writeFile(path(), Buffer.alloc(64 * 1024, 0x5a));
  (await open()).close();
  const names = await readdir(directory);
  const asides = names.filter((name) => name.startsWith('catalogue.sqlite.damaged-'));
  expect(asides).toHaveLength(1);
  expect(asides[0]).not.toContain('2001');
});

test('nothing of it is shared by mapping a file, which kills the process on a full disk', async () => {
  const catalogue = await open();
  catalogue.test(tested('told'));
  catalogue.flush();
  expect((await readdir(directory)).sort()).toEqual(['catalogue.sqlite', 'catalogue.sqlite-wal']);
  catalogue.close();
});

test('a file of another version is set aside', async () => {
  const other = new Database(path());
  other.exec('CREATE TABLE x (y)');
  other.pragma('user_version = 99');
  other.close();
  (await open()).close();
  expect(troubles).toEqual(['catalogue-set-aside']);
});

test('a catalogue that fails while the hub runs is given up, told once, and harms nothing', async () => {
  (await open()).close();
  const other = new Database(path());
  other.exec("CREATE TRIGGER refuse BEFORE INSERT ON tests BEGIN SELECT RAISE(ABORT, 'no'); END");
  other.close();
  const catalogue = await open();
  catalogue.test(tested('lost'));
  catalogue.flush();
  catalogue.test(tested('lost too'));
  catalogue.flush();
  catalogue.close();
  expect(troubles).toEqual(['catalogue-failed']);
});

test('a path that cannot be opened leaves the hub without a catalogue', async () => {
  await rm(directory, { recursive: true });
  const catalogue = await open();
  catalogue.test(tested('nowhere'));
  catalogue.close();
  expect(troubles).toEqual(['catalogue-set-aside', 'catalogue-failed']);
});

test('a catalogue of version 1, which held events too, goes on without them', async () => {
  (await open()).close();
  const other = new Database(path());
  other.exec('CREATE TABLE events (id INTEGER PRIMARY KEY)');
  other.pragma('user_version = 1');
  other.close();
  const catalogue = await open();
  catalogue.test(tested('after'));
  catalogue.close();
  expect(troubles).toEqual([]);
  expect(rows('SELECT name FROM tests')).toEqual([{ name: 'after' }]);
  expect(rows("SELECT name FROM sqlite_master WHERE name = 'events'")).toEqual([]);
});
