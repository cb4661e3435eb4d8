import { SimClock, type CrashFate, SeededRandomness, SimFiles } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { EVENTS_FILE_BYTES, EventsFile } from './events-file.js';
import type { HubEvent } from './events.js';
import { formatEvent, MAX_LINE_BYTES, parseEvents } from './event-lines.js';

function eventOf(id: number, message = `event ${id}`): HubEvent {
  return { id, unixMs: id * 1000, level: 'warn', group: 'vm1', event: 'e', message, fields: { n: id, none: null } };
}

interface Place {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly told: string[];
}

async function place(files = new SimFiles()): Promise<Place> {
  await files.makeDirectory('/data');
  return { clock: new SimClock(), files, told: [] };
}

async function open({ clock, files, told }: Place): Promise<EventsFile> {
  const trouble = (event: string): void => void told.push(event);
  return await EventsFile.open({ clock, files, directory: '/data', trouble });
}

const idsOf = (file: EventsFile): number[] => file.earlier.map(({ id }) => id);

async function writeAll(on: Place, events: readonly HubEvent[]): Promise<void> {
  const file = await open(on);
  for (const event of events) file.write(event);
  await file.close();
}

/** Until all that was told is with the kernel. */
async function written(on: Place): Promise<void> {
  await on.clock.advance(1);
}

async function bytesOf(files: SimFiles): Promise<Buffer> {
  const file = await files.open('/data/events.log', 'read');
  const bytes = Buffer.alloc((await file.status()).sizeBytes);
  await file.read(bytes, 0);
  await file.close();
  return bytes;
}

async function overwrite(files: SimFiles, bytes: Uint8Array, position: number): Promise<void> {
  const file = await files.open('/data/events.log', 'write');
  await file.write([bytes], position);
  await file.close();
}

test('a restart finds what was told before, and goes on behind it', async () => {
  const on = await place();
  await writeAll(on, [eventOf(1), eventOf(2)]);
  await writeAll(on, [eventOf(3)]);
  const again = await open(on);
  expect(again.earlier).toEqual([eventOf(1), eventOf(2), eventOf(3)]);
  await again.close();
  expect(on.told).toEqual([]);
});

test('a killed process has lost nothing of what was told, though nothing was synced', async () => {
  const on = await place();
  const file = await open(on);
  file.write(eventOf(1));
  file.write(eventOf(2));
  await written(on);
  const after = { ...on, files: on.files.crash({ seed: 1, fate: 'keep' }) };
  expect(idsOf(await open(after))).toEqual([1, 2]);
});

test('a power cut takes the last seconds at most, whatever it leaves of them', async () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    const on = await place();
    const file = await open(on);
    for (let id = 1; id <= 20; id += 1) file.write(eventOf(id));
    await on.clock.advance(11_000);
    for (let id = 21; id <= 40; id += 1) file.write(eventOf(id));
    await written(on);
    const after = { ...on, files: on.files.crash({ seed }) };
    const found = idsOf(await open(after));
    expect(found.slice(0, 20), `seed ${seed}`).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
    await writeAll(after, [eventOf(100)]);
    expect(idsOf(await open(after)), `seed ${seed}`).toEqual([...found, 100]);
  }
});

test('wherever the file ends, all whole lines before are read and the next one is not spoilt', async () => {
  const on = await place();
  await writeAll(on, [eventOf(1), eventOf(2)]);
  const whole = await bytesOf(on.files);
  const first = formatEvent(eventOf(1)).length;
  for (let end = 0; end <= whole.length; end += 1) {
    const torn = await place();
    await (await torn.files.open('/data/events.log', 'create')).close();
    await overwrite(torn.files, whole.subarray(0, end), 0);
    await writeAll(torn, [eventOf(3)]);
    const before = end < first ? [] : end < whole.length ? [1] : [1, 2];
    expect(idsOf(await open(torn)), `cut at ${end}`).toEqual([...before, 3]);
    expect(torn.told).toEqual([]);
  }
});

test('any flipped bit costs one line, and is told', async () => {
  const lines = Buffer.concat([eventOf(1), eventOf(2), eventOf(3)].map(formatEvent));
  const first = formatEvent(eventOf(1)).length;
  const second = first + formatEvent(eventOf(2)).length;
  for (let bit = first * 8; bit < second * 8; bit += 1) {
    const rotten = Buffer.from(lines);
    rotten[bit >> 3] = (rotten[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const { events, damaged } = parseEvents(rotten, false);
    // A newline that has gone takes its neighbour with it.
    expect([[1, 3], [1]], `bit ${bit}`).toContainEqual(events.map(({ id }) => id));
    if (events.length === 2) expect(damaged).toBeGreaterThan(0);
  }
  const on = await place();
  await writeAll(on, [eventOf(1), eventOf(2), eventOf(3)]);
  await overwrite(on.files, Buffer.from('x'), first + 20);
  expect(idsOf(await open(on))).toEqual([1, 3]);
  expect(on.told).toEqual(['events-damaged']);
});

test('random bytes are no events and stop nothing', async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const garbage = new SeededRandomness(seed).bytes(100_000);
    const on = await place();
    await on.files.open('/data/events.log', 'create');
    await overwrite(on.files, garbage, 0);
    const file = await open(on);
    expect(file.earlier, `seed ${seed}`).toEqual([]);
    file.write(eventOf(1));
    await file.close();
    expect(idsOf(await open(on)), `seed ${seed}`).toEqual([1]);
  }
});

test('two files of bounded size hold the newest', async () => {
  const on = await place();
  const file = await open(on);
  const message = 'x'.repeat(4000);
  const count = Math.ceil((3 * EVENTS_FILE_BYTES) / 4000);
  for (let id = 1; id <= count; id += 1) {
    file.write(eventOf(id, message));
    if (id % 100 === 0) await written(on);
  }
  await file.close();
  const names = await on.files.list('/data');
  expect(names).toEqual(['events.log', 'events.old.log']);
  for (const name of names) {
    expect((await on.files.status(`/data/${name}`))?.sizeBytes).toBeLessThanOrEqual(EVENTS_FILE_BYTES);
  }
  const found = idsOf(await open(on));
  expect(found.at(-1)).toBe(count);
  expect(found.length).toBeGreaterThan(1000);
  expect(found).toEqual(found.map((_, at) => count - found.length + 1 + at));
});

test('on a full disk events wait, and are written when there is room', async () => {
  const on = await place();
  const full = on.files.inject({ operation: 'write', path: 'events.log', times: Infinity, fault: 'disk-full' });
  const file = await open(on);
  for (let id = 1; id <= 1500; id += 1) file.write(eventOf(id));
  await on.clock.advance(100_000);
  expect(on.told).toEqual(['events-not-kept']);
  full.remove();
  await on.clock.advance(31_000);
  expect(on.told).toEqual(['events-not-kept', 'events-kept-again']);
  const after = { ...on, files: on.files.crash({ seed: 1, fate: 'keep' }) };
  const found = idsOf(await open(after));
  expect(found).toHaveLength(1000);
  expect(found.at(-1)).toBe(1500);
});

test('on a full disk the last event of a run is kept all the same: room is held back for it', async () => {
  for (const early of [0, 1, 30, 200]) {
    const on = await place(new SimFiles({ capacityBytes: 50 * 4096 }));
    const file = await open(on);
    for (let id = 1; id <= early + 1; id += 1) file.write(eventOf(id));
    await written(on);
    const filler = await on.files.open('/filler', 'create');
    await filler.allocate(0, (await on.files.room('/')).freeBytes);
    // So many that most of them wait; the file is closed and opened again meanwhile.
    for (let id = 1001; id <= 1200; id += 1) file.write(eventOf(id));
    await on.clock.advance(120_000);
    file.write(eventOf(9999, 'stopped'));
    await file.close();
    expect(on.told, `${early} before`).toContain('events-not-kept');
    const again = await open({ ...on, files: on.files.crash({ seed: 1, fate: 'lose' }) });
    const ids = idsOf(again);
    expect(ids.slice(0, early + 1), `${early} before`).toEqual(Array.from({ length: early + 1 }, (_, at) => at + 1));
    expect(ids.at(-1), `${early} before`).toBe(9999);
    expect(ids.length).toBeLessThan(early + 150);
  }
});

test('a failing disk is told once, whichever operation fails, and closing comes to an end', async () => {
  for (const operation of ['open', 'read', 'write', 'sync', 'truncate', 'rename'] as const) {
    const on = await place();
    await writeAll(on, [eventOf(1)]);
    on.files.inject({ operation, path: /events/, times: Infinity, fault: 'io-error' });
    const file = await open(on);
    file.write(eventOf(2));
    await on.clock.advance(100_000);
    await file.close();
    expect(on.told.length, operation).toBeLessThanOrEqual(2);
  }
});

test('a file that cannot be read is kept beside the new one', async () => {
  const on = await place();
  await writeAll(on, [eventOf(1)]);
  on.files.inject({ operation: 'read', path: 'events.log', fault: 'io-error' });
  await writeAll(on, [eventOf(2)]);
  expect(on.told).toEqual(['events-damaged']);
  expect(await on.files.list('/data')).toEqual(['events.log', 'events.log.damaged']);
  expect(idsOf(await open(on))).toEqual([2]);
});

test('a directory that could not be opened to be synced is synced later: its file has failed nothing', async () => {
  const on = await place();
  const fault = on.files.inject({ operation: 'sync-directory', path: /data$/, times: 2, fault: 'too-many-files' });
  const file = await open(on);
  file.write(eventOf(1));
  await on.clock.advance(11_000);
  expect([fault.hits, file.isKept(1)]).toEqual([1, false]);
  await on.clock.advance(120_000);
  expect([fault.hits, file.isKept(1), on.told]).toEqual([2, true, []]);
  expect(idsOf(await open({ ...on, files: on.files.crash({ seed: 1, fate: 'lose' }) }))).toEqual([1]);
});

test('a sync that has failed is not tried again', async () => {
  const on = await place();
  const fault = on.files.inject({ operation: 'sync', path: 'events.log', fault: 'io-error' });
  const file = await open(on);
  file.write(eventOf(1));
  await on.clock.advance(20_000);
  const syncsBefore = on.files.changes;
  await on.clock.advance(60_000);
  expect(on.files.changes).toBe(syncsBefore);
  expect(fault.hits).toBe(1);
  expect(on.told).toEqual(['events-not-kept']);
  await file.close();
});

test('a message without end is cut, its event is kept', async () => {
  const on = await place();
  await writeAll(on, [eventOf(1, 'é'.repeat(100_000))]);
  const [event] = (await open(on)).earlier;
  expect(event).toMatchObject({ id: 1, event: 'e', group: 'vm1' });
  expect(formatEvent(eventOf(1, 'é'.repeat(100_000))).length).toBeLessThan(MAX_LINE_BYTES);
});

const FATES: readonly CrashFate[] = ['keep', 'lose', 'mixed'];

test('a crash at every change of the disk leaves a file that can be read and gone on with', async () => {
  for (let change = 1; change <= 12; change += 1) {
    for (const fate of FATES) {
      const on = await place();
      on.files.crashAt(on.files.changes + change);
      const file = await open(on);
      for (let id = 1; id <= 3; id += 1) {
        file.write(eventOf(id));
        await on.clock.advance(11_000);
      }
      await file.close();
      const after = { ...on, files: on.files.crash({ seed: change, fate }), told: [] };
      await after.files.makeDirectory('/data');
      await writeAll(after, [eventOf(10)]);
      const found = idsOf(await open(after));
      expect(found.at(-1), `change ${change}, ${fate}`).toBe(10);
      expect(found).toEqual([...Array.from({ length: found.length - 1 }, (_, at) => at + 1), 10]);
    }
  }
});

test('an event counts as kept once it is synced, not before; what a failed sync may have lost never does', async () => {
  const on = await place();
  const file = await open(on);
  file.write(eventOf(1));
  await written(on);
  expect(file.isKept(1)).toBe(false);
  await on.clock.advance(11_000);
  expect(file.isKept(1)).toBe(true);
  on.files.inject({ operation: 'sync', path: 'events.log', fault: 'io-error' });
  file.write(eventOf(2));
  await on.clock.advance(11_000);
  file.write(eventOf(3));
  await on.clock.advance(11_000);
  expect([1, 2, 3].map((id) => file.isKept(id))).toEqual([true, false, false]);
  await file.close();
});

test('events of a file that was turned over are kept: it is synced before', async () => {
  const on = await place();
  const file = await open(on);
  const many = 1 + Math.ceil(EVENTS_FILE_BYTES / 3000);
  for (let id = 1; id <= many; id++) {
    file.write(eventOf(id, 'm'.repeat(3000)));
    if (id % 100 === 0) await written(on);
  }
  await on.clock.advance(11_000);
  expect(await on.files.list('/data')).toContain('events.old.log');
  expect(file.isKept(1) && file.isKept(many)).toBe(true);
  const after = on.files.crash({ seed: 1, fate: 'lose' });
  const again = await open({ ...on, files: after });
  expect(idsOf(again)).toHaveLength(many);
  await again.close();
});
