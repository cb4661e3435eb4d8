/** A volume that grows while it is tracked: what is new is marked, durably, before it counts; nothing that was marked is lost. */
import { type CrashFate, SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it, test } from 'vitest';
import { BlockBits } from './block-bits.js';
import type { TrackerOptions } from './options.js';
import { Tracker } from './tracker.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const SMALL = 16 * MIB + 4096;
const LARGE = 3000 * MIB;
const FATES: readonly CrashFate[] = ['lose', 'tear', 'garble', 'mixed', 'keep'];

function open(files: SimFiles, sizeBytes: number, patch: Partial<TrackerOptions> = {}): Promise<Tracker> {
  return Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(7) },
    {
      directory: '/state',
      group: 'vm1',
      hotExtents: 16,
      volumes: [
        { index: 0, name: 'disk0', sizeBytes },
        { index: 1, name: 'disk1', sizeBytes: 8 * MIB },
      ],
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
      ...patch,
    },
  );
}

function copyAll(tracker: Tracker, number: number): void {
  for (const volume of [0, 1]) {
    for (let run = tracker.nextDirty(volume, 0); run !== null; run = tracker.nextDirty(volume, 0)) {
      tracker.numbered(tracker.take(volume, run.offset, run.length), number, tracker.takeTicket());
    }
  }
  tracker.hubDurable(number);
  for (const volume of [0, 1]) tracker.upstreamFlushed(volume, tracker.takeTicket());
}

async function clean(files: SimFiles): Promise<Tracker> {
  const tracker = await open(files, SMALL);
  copyAll(tracker, 1);
  await tracker.coolIdle();
  expect(tracker.hasMarks()).toBe(false);
  return tracker;
}

async function write(tracker: Tracker, offset: number, length: number, number: number): Promise<void> {
  if (!tracker.begin(0, offset, length)) await tracker.activate(0, offset, length);
  const ticket = tracker.takeTicket();
  if (number === 0) tracker.setDirty(0, offset, length);
  tracker.end(0, offset, length, ticket, number);
}

function isMarked(tracker: Tracker, offset: number): boolean {
  for (const run of tracker.runs(0)) if (offset >= run.offset && offset < run.offset + run.length) return true;
  return false;
}

describe('a volume that grows under its tracker', () => {
  it('has all that is new marked from the turn in which it is admitted, and is written to there', async () => {
    const files = new SimFiles();
    const tracker = await clean(files);
    await write(tracker, 5 * MIB, 4096, 2);
    let seen = 0;
    await tracker.grow(0, LARGE, () => {
      seen = tracker.dirtyBytes;
    });
    const tail = 16 * MIB;
    expect(seen).toBe(LARGE - tail);
    expect(tracker.nextDirty(0, 0)).toEqual({ offset: tail, length: 1024 * MIB });
    await write(tracker, LARGE - 4096, 4096, 3);
    expect(isMarked(tracker, 5 * MIB)).toBe(true);
    copyAll(tracker, 9);
    await tracker.coolIdle();
    expect(tracker.hasMarks()).toBe(false);
    expect(await tracker.closeClean(9)).toBe(true);
    const again = await open(files, LARGE);
    expect(again.found).toBe('clean');
    await again.close();
  });

  it('grows again and again, beside another volume whose marks stay as they are', async () => {
    const files = new SimFiles();
    const tracker = await clean(files);
    tracker.setDirty(1, 0, 4096);
    for (let size = SMALL + 512; size < 600 * MIB; size = Math.floor(size * 1.7)) {
      await tracker.grow(0, size - (size % 512), () => undefined);
    }
    expect(tracker.nextDirty(1, 0)).toEqual({ offset: 0, length: 64 * KIB });
    await tracker.coolIdle();
    await tracker.close();
  });

  it('that cannot be tracked at that size, or has no room for its map, is as it was', async () => {
    const files = new SimFiles();
    const tracker = await clean(files);
    await expect(tracker.grow(0, 65 * 1024 ** 4, () => undefined)).rejects.toMatchObject({ code: 'wrong-size' });
    await write(tracker, 0, 4096, 0);
    files.setCapacity(files.usedBytes + 4096);
    await expect(tracker.grow(0, LARGE, () => undefined)).rejects.toMatchObject({ code: 'disk-full' });
    files.setCapacity(1024 * MIB);
    expect(tracker.dirtyBytes).toBe(64 * KIB);
    await tracker.coolIdle();
    await tracker.close();
    const again = await open(files, SMALL);
    expect(again.found).toBe('marked');
    expect(isMarked(again, 0)).toBe(true);
    await again.grow(0, LARGE, () => undefined);
    await again.close();
  });

  for (const fate of FATES) {
    it(
      `SUPERSET: a crash at any I/O of it, with writes under way, unsynced: ${fate}`,
      { timeout: 60_000 },
      async () => {
        let cut = true;
        let points = 0;
        for (let point = 1; cut; point += 1) {
          points = point;
          const files = new SimFiles();
          const tracker = await clean(files);
          await write(tracker, 9 * MIB, 4096, 0);
          const written = [9 * MIB];
          const state = { admitted: false };
          files.crashAt(files.changes + point);
          const late = async (offset: number): Promise<void> => {
            if (!tracker.begin(0, offset, 4096)) await tracker.activate(0, offset, 4096);
            // From here on upstream may hold it.
            written.push(offset);
            tracker.end(0, offset, 4096, tracker.takeTicket(), offset === MIB ? 4 : 0);
          };
          const work = [
            tracker.grow(0, LARGE, () => {
              state.admitted = true;
            }),
            late(MIB),
            late(13 * MIB).then(() => tracker.setDirty(0, 13 * MIB, 4096)),
            tracker.coolIdle(),
          ];
          await Promise.allSettled(work);
          if (state.admitted) await late(2900 * MIB).catch(() => undefined);
          cut = files.crashed;
          const after = files.crash({ seed: point, fate });
          // Upstream has grown in any case.
          const found = await open(after, LARGE);
          for (const offset of written) expect(isMarked(found, offset), `point ${point}, ${offset}`).toBe(true);
          expect(isMarked(found, SMALL - 4096) && isMarked(found, SMALL) && isMarked(found, LARGE - 1)).toBe(true);
          if (state.admitted) expect(found.found, `point ${point}`).toBe('marked');
          await found.close();
        }
        expect(points).toBeGreaterThan(6);
      },
    );
  }
});

test('bits that grow keep what is set and find what is set behind it (random, seeded)', () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = new SeededRandomness(seed);
    const below = (limit: number): number => Math.floor(random.fraction() * limit);
    let length = 1 + below(5000);
    const bits = new BlockBits(length);
    const model = new Set<number>();
    for (let step = 0; step < 40; step += 1) {
      if (below(3) === 0) bits.grow((length += below(4000)));
      const from = below(length);
      const to = Math.min(length, from + 1 + below(200));
      const sets = below(2) === 0;
      if (sets) bits.set(from, to);
      else bits.clear(from, to);
      for (let bit = from; bit < to; bit += 1) {
        if (sets) model.add(bit);
        else model.delete(bit);
      }
    }
    const found: number[] = [];
    for (let bit = bits.nextSet(0); bit >= 0; bit = bits.nextSet(bit + 1)) found.push(bit);
    expect(found.join(), `seed ${seed}`).toBe([...model].sort((one, other) => one - other).join());
    expect(bits.count).toBe(model.size);
  }
});
