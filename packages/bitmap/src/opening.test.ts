import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CorruptionFault } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import type { Identity, TrackerOptions } from './options.js';
import { lockState } from './state-lock.js';
import { Tracker } from './tracker.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const DIRECTORY = '/state';
const DISK0 = { index: 0, name: 'disk0', sizeBytes: 1024 * MIB };
const DISK1 = { index: 1, name: 'disk1', sizeBytes: 100 * MIB };

const open = (files: SimFiles, patch: Partial<TrackerOptions> = {}): Promise<Tracker> =>
  Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(7) },
    {
      directory: DIRECTORY,
      group: 'vm1',
      hotExtents: 16,
      volumes: [DISK0],
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
      ...patch,
    },
  );

/** A state directory, closed in order, in which only the given range of each volume is marked. */
async function stateWith(
  marked: readonly (readonly [number, number])[],
  patch: Partial<TrackerOptions> = {},
): Promise<SimFiles> {
  const files = new SimFiles();
  const tracker = await open(files, patch);
  for (const { name } of patch.volumes ?? [DISK0]) {
    const index = tracker.indexOf(name);
    for (let run = tracker.nextDirty(index, 0); run !== null; run = tracker.nextDirty(index, 0)) {
      tracker.numbered(tracker.take(index, run.offset, run.length), 1, 0);
    }
    tracker.hubDurable(1);
    for (const [offset, length] of marked) {
      await tracker.activate(index, offset, length);
      tracker.setDirty(index, offset, length);
      tracker.end(index, offset, length, tracker.takeTicket(), 0);
    }
  }
  await tracker.closeClean(1);
  return files;
}

const runsOf = (tracker: Tracker, volume = 0): unknown[] =>
  [...tracker.runs(volume)].map(({ offset, length }) => [offset, length]);

async function spoil(files: SimFiles, name: string, position: number, bytes: Uint8Array): Promise<void> {
  const file = await files.open(`${DIRECTORY}/${name}`, 'write');
  await file.write([bytes], position);
  await file.close();
}

const codes = (faults: readonly CorruptionFault[]): string[] => faults.map(({ code }) => code);

describe('opening a state directory', () => {
  it('is refused while another tracker holds it, and possible again afterwards', async () => {
    const files = new SimFiles();
    const tracker = await open(files);
    await expect(open(files)).rejects.toMatchObject({ kind: 'storage', code: 'state-in-use', retryable: true });
    await tracker.close();
    await (await open(files)).close();
  });

  it('SIZE: a volume that has grown is taken, and nothing found is believed', async () => {
    const files = await stateWith([[MIB, MIB]]);
    const sizeBytes = 2 * DISK0.sizeBytes;
    const tracker = await open(files, { volumes: [{ ...DISK0, sizeBytes }] });
    expect(tracker.found).toBe('untrusted');
    expect(tracker.foundReason).toContain(`has ${sizeBytes} bytes`);
    expect(runsOf(tracker)).toEqual([[0, sizeBytes]]);
    await tracker.close();
    expect((await open(files, { volumes: [{ ...DISK0, sizeBytes }] })).found).toBe('marked');
  });

  it('SIZE: a volume that has shrunk is taken when it may have', async () => {
    const files = await stateWith([[MIB, MIB]]);
    const sizeBytes = DISK0.sizeBytes / 2;
    const tracker = await open(files, { volumes: [{ ...DISK0, sizeBytes }], mayShrink: true });
    expect(tracker.found).toBe('untrusted');
    expect(runsOf(tracker)).toEqual([[0, sizeBytes]]);
  });

  it('SIZE: refuses another group and a volume that has shrunk, and changes nothing', async () => {
    const files = await stateWith([[MIB, MIB]]);
    const before = files.changes;
    await expect(open(files, { group: 'vm2' })).rejects.toMatchObject({ kind: 'config', code: 'state-foreign' });
    const volumes = [{ ...DISK0, sizeBytes: DISK0.sizeBytes / 2 }];
    await expect(open(files, { volumes })).rejects.toMatchObject({ kind: 'config', code: 'wrong-size' });
    // Making the directory is asked for each time, and its lock.
    expect(files.changes - before).toBe(2);
    expect(runsOf(await open(files))).toEqual([[MIB, MIB]]);
  });

  it('refuses options that cannot be, by name', async () => {
    const refused = async (patch: Partial<TrackerOptions>, code: string): Promise<void> => {
      await expect(open(new SimFiles(), patch)).rejects.toMatchObject({ kind: 'config', code });
    };
    await refused({ granularityBytes: 5000 }, 'wrong-granularity');
    await refused({ granularityBytes: 2 * MIB }, 'wrong-granularity');
    await refused({ hotExtents: 15 }, 'wrong-hot-extents');
    await refused({ volumes: [] }, 'no-volumes');
    await refused({ volumes: [{ ...DISK0, index: 255 }] }, 'wrong-volume-index');
    await refused({ volumes: [DISK0, { ...DISK1, index: 0 }] }, 'wrong-volume-index');
    await refused({ volumes: [DISK0, { ...DISK1, name: 'disk0' }] }, 'wrong-name');
    await refused({ volumes: [{ ...DISK0, name: '../x' }] }, 'wrong-name');
    await refused({ volumes: [{ ...DISK0, sizeBytes: 2 ** 47 }] }, 'wrong-size');
    await refused({ volumes: [{ ...DISK0, sizeBytes: 2 ** 46 }], granularityBytes: 4096 }, 'granularity-too-fine');
  });

  it('CORRUPT: a lost file means that everything is compared', async () => {
    for (const [name, code] of [
      ['hot.log', 'hot-log-missing'],
      ['disk0.map', 'map-missing'],
      ['identity', 'identity-missing'],
    ] as const) {
      const files = await stateWith([]);
      await files.remove(`${DIRECTORY}/${name}`);
      const tracker = await open(files);
      expect(tracker.found).toBe('untrusted');
      expect(codes(tracker.foundFaults)).toEqual([code]);
      expect(tracker.foundReason).toContain(name);
      expect(tracker.dirtyBytes).toBe(DISK0.sizeBytes);
    }
  });

  it('CORRUPT: a file cut short, spoiled, foreign or of another version means the same, and is put aside', async () => {
    const other = await stateWith([]);
    const foreign = Buffer.alloc(64 * KIB);
    await (await other.open(`${DIRECTORY}/disk0.map`, 'read')).read(foreign, 0);
    foreign.writeUInt32LE(0, 4092);
    const version = Buffer.from([9]);
    const cases: readonly (readonly [string, string, (files: SimFiles) => Promise<void>])[] = [
      [
        'disk0.map',
        'map-corrupt',
        async (files) => await (await files.open(`${DIRECTORY}/disk0.map`, 'write')).truncate(9000),
      ],
      ['disk0.map', 'map-corrupt', (files) => spoil(files, 'disk0.map', 0, foreign)],
      ['disk0.map', 'map-corrupt', (files) => spoil(files, 'disk0.map', 4096 + 77, version)],
      [
        'hot.log',
        'hot-log-short',
        async (files) => await (await files.open(`${DIRECTORY}/hot.log`, 'write')).truncate(9000),
      ],
      ['hot.log', 'hot-log-corrupt', (files) => spoil(files, 'hot.log', 0, Buffer.alloc(100_000))],
    ];
    for (const [name, code, harm] of cases) {
      const files = await stateWith([]);
      await harm(files);
      const tracker = await open(files);
      expect([tracker.found, ...codes(tracker.foundFaults)]).toEqual(['untrusted', code]);
      expect(tracker.dirtyBytes).toBe(DISK0.sizeBytes);
      expect(await files.list(DIRECTORY)).toContain(`${name}.set-aside-1`);
      await tracker.close();
      const again = await open(files);
      expect([again.found, again.dirtyBytes]).toEqual(['marked', DISK0.sizeBytes]);
    }
  });

  it('CORRUPT: the map of another volume, of the same size, is not taken for this one', async () => {
    const volumes = [DISK0, { ...DISK0, index: 1, name: 'twin' }];
    const files = await stateWith([], { volumes });
    await files.rename(`${DIRECTORY}/twin.map`, `${DIRECTORY}/disk0.map`);
    const tracker = await open(files, { volumes });
    expect(codes(tracker.foundFaults)).toEqual(['map-foreign', 'map-missing']);
    expect([tracker.found, tracker.dirtyBytes]).toEqual(['untrusted', 2 * DISK0.sizeBytes]);
  });

  it('SUPERSET: a volume that was away while another had its number is believed in nothing when it is back', async () => {
    for (const between of [[DISK0, { ...DISK1, name: 'other' }], [DISK0]]) {
      const files = await stateWith([], { volumes: [DISK0, DISK1] });
      // Whoever writes to disk1 meanwhile is not seen here.
      await (await open(files, { volumes: between })).closeClean(1);
      expect(await files.list(DIRECTORY)).not.toContain('disk1.map');
      const tracker = await open(files, { volumes: [DISK0, DISK1] });
      expect(runsOf(tracker, 1)).toEqual([[0, DISK1.sizeBytes]]);
      await tracker.close();
    }
  });

  it('CORRUPT: an identity that cannot be read is put aside, and the agent is another one', async () => {
    const files = await stateWith([]);
    const before = await open(files);
    await before.close();
    await spoil(files, 'identity', 0, Buffer.alloc(20_000, 1));
    const tracker = await open(files);
    expect([tracker.found, ...codes(tracker.foundFaults)]).toEqual(['untrusted', 'identity-corrupt']);
    expect(await files.list(DIRECTORY)).toEqual(
      expect.arrayContaining(['identity.set-aside-1', 'hot.log.set-aside-1', 'disk0.map.set-aside-1']),
    );
  });

  it('never overwrites what was put aside before', async () => {
    const files = await stateWith([]);
    for (let round = 1; round <= 3; round += 1) {
      await spoil(files, 'disk0.map', 5000, Buffer.from([round]));
      await (await open(files)).close();
      expect(await files.list(DIRECTORY)).toContain(`disk0.map.set-aside-${round}`);
    }
  });

  it('another number of slots keeps all marks and costs none', async () => {
    const files = await stateWith([[8 * MIB, 64 * KIB]]);
    const first = await open(files);
    await first.activate(0, 100 * MIB, 4096);
    await first.close();
    for (const hotExtents of [1237, 16, 3000]) {
      const tracker = await open(files, { hotExtents });
      expect(tracker.found).toBe('marked');
      expect(runsOf(tracker)).toEqual([
        [8 * MIB, 64 * KIB],
        [100 * MIB, 4 * MIB],
      ]);
      await tracker.close();
    }
    const cleanFiles = await stateWith([]);
    const tracker = await open(cleanFiles, { hotExtents: 100 });
    expect([tracker.found, tracker.hasMarks()]).toEqual(['clean', false]);
  });

  it('another granularity keeps all marks', async () => {
    const files = await stateWith([[8 * MIB + 64 * KIB, 64 * KIB]]);
    const first = await open(files);
    await first.activate(0, 100 * MIB, 4096);
    await first.close();
    for (const granularityBytes of [4 * KIB, 64 * KIB, 128 * KIB]) {
      const tracker = await open(files, { granularityBytes });
      const rounded = granularityBytes === 128 * KIB ? [8 * MIB, 128 * KIB] : [8 * MIB + 64 * KIB, 64 * KIB];
      expect(runsOf(tracker)).toEqual([rounded, [100 * MIB, 4 * MIB]]);
      await tracker.close();
    }
  });

  it('a volume that is new is marked whole, one that is back too, the others keep their marks', async () => {
    const files = await stateWith([[MIB, MIB]]);
    const both = await open(files, { volumes: [DISK0, DISK1] });
    expect([both.found, runsOf(both), runsOf(both, 1)]).toEqual(['marked', [[MIB, MIB]], [[0, DISK1.sizeBytes]]]);
    both.numbered(both.take(1, 0, DISK1.sizeBytes), 2, 0);
    both.hubDurable(2);
    await both.activate(1, 0, 4096);
    await both.close();
    const without = await open(files);
    expect(runsOf(without)).toEqual([[MIB, MIB]]);
    await without.close();
    const back = await open(files, { volumes: [DISK0, DISK1] });
    expect([runsOf(back), runsOf(back, 1)]).toEqual([[[MIB, MIB]], [[0, DISK1.sizeBytes]]]);
  });

  it('keeps what the agent stores, raises the session each time, and carries numbers over a crash', async () => {
    let files = new SimFiles();
    const first = await open(files);
    const line: Identity['line'] = {
      id: 'a4c1c1f2-31a9-4c1e-8a54-0b0e7a0c2d3e',
      parent: { id: first.identity.line.id, number: 5 },
    };
    await first.saveIdentity({ notes: { paused: 'yes' } });
    await first.saveIdentity({ line, lastNumber: 7, durableNumber: 6 });
    await first.activate(0, 0, 4096);
    first.end(0, 0, 4096, first.takeTicket(), 12);
    first.hubDurable(11);
    await first.activate(0, 8 * MIB, 4096);
    files = files.crash({ seed: 1, fate: 'lose' });
    const second = await open(files);
    expect(second.identity).toMatchObject({
      agentId: first.identity.agentId,
      session: 2,
      line,
      notes: { paused: 'yes' },
      lastNumber: 12,
      durableNumber: 11,
      restsOn: 11,
    });
    await expect(second.saveIdentity({ notes: { long: 'x'.repeat(9000) } })).rejects.toMatchObject({
      code: 'identity-too-big',
    });
    expect(second.identity.notes).toEqual({ paused: 'yes' });
  });

  it('however full the notes are, it opens: also with a long reason not to believe the marks, and many volumes', async () => {
    const names = Array.from({ length: 64 }, (_, at) => `volume-${at}`);
    const volumes = names.map((name) => ({ name, sizeBytes: MIB }));
    const files = new SimFiles();
    const tracker = await open(files, { volumes });
    let noteBytes = 4096;
    const fill = (): Promise<unknown> =>
      tracker.saveIdentity({ notes: { note: 'x'.repeat(noteBytes) } }).then(
        () => null,
        (fault: unknown) => fault,
      );
    while ((await fill()) !== null) noteBytes -= 1;
    expect(noteBytes).toBeGreaterThan(2048);
    await tracker.close();
    const doubted = await open(files, { volumes, doubt: () => 'a reason '.repeat(100) });
    expect([doubted.found, doubted.identity.notes['note']?.length]).toEqual(['untrusted', noteBytes]);
    await doubted.distrust('another reason '.repeat(100));
    await doubted.close();
    const distrusted = await open(files, { volumes });
    expect([distrusted.found, distrusted.foundReason]).toEqual([
      'untrusted',
      expect.stringMatching(/^another reason /),
    ]);
    // What takes no more room than before is stored all the same.
    await distrusted.saveIdentity({ notes: { note: 'y'.repeat(noteBytes) } });
  });

  it('is locked by whoever opens it, and by nobody else until it is closed, also while the log is made anew', async () => {
    const files = new SimFiles();
    await (await open(files)).closeClean(1);
    const lock = await lockState(files, DIRECTORY);
    const tracker = await open(files, { hotExtents: 32, lock });
    await expect(open(files, { hotExtents: 32 })).rejects.toMatchObject({ code: 'state-in-use' });
    await tracker.close();
    await (await open(files, { hotExtents: 32 })).close();
  });

  it('works on the real disk: locked, taken in full when made, and found again', async () => {
    const base = await mkdtemp(join(tmpdir(), 'tracker-'));
    const directory = join(base, 'deep', 'state');
    const platform = nodePlatform();
    const options: TrackerOptions = {
      directory,
      group: 'vm1',
      volumes: [DISK0],
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    };
    try {
      const tracker = await Tracker.open(platform, options);
      await expect(Tracker.open(platform, options)).rejects.toMatchObject({ code: 'state-in-use' });
      for (const name of ['hot.log', 'disk0.map', 'identity']) {
        const status = await platform.files.status(join(directory, name));
        expect(status?.allocatedBytes).toBeGreaterThanOrEqual(status?.sizeBytes ?? Infinity);
      }
      tracker.numbered(tracker.take(0, 0, DISK0.sizeBytes), 1, 0);
      tracker.hubDurable(1);
      await tracker.coolIdle();
      await Promise.all(Array.from({ length: 40 }, (_, extent) => tracker.activate(0, extent * 8 * MIB, 4096)));
      await tracker.close();
      const again = await Tracker.open(platform, options);
      expect([again.found, runsOf(again).length, again.dirtyBytes]).toEqual(['marked', 40, 160 * MIB]);
      expect(await again.closeClean(1)).toBe(false);
    } finally {
      await rm(base, { recursive: true });
    }
  });
});
