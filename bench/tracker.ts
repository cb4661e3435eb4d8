/**
 * What the dirty tracking costs: the mark on the hot path, memory per TiB, activation with real syncs, finding
 * the next dirty run. Run:
 * node --expose-gc --import tsx -C @rephub/source bench/tracker.ts [DIRECTORY]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Tracker, type TrackerOptions } from '@rephub/bitmap';
import { nodePlatform } from '@rephub/platform/node';

const GIB = 1024 ** 3;
const TIB = 1024 ** 4;
const EXTENT_BYTES = 4 * 1024 * 1024;

const base = process.argv[2] ?? tmpdir();

async function withTracker<T>(
  patch: Partial<TrackerOptions>,
  sizeBytes: number,
  run: (tracker: Tracker) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(base, 'tracker-'));
  try {
    const tracker = await Tracker.open(nodePlatform(), {
      directory,
      group: 'bench',
      volumes: [{ index: 0, name: 'disk0', sizeBytes }],
      hooks: { wantsFlush: () => undefined, failed: (fault) => console.error(fault.message) },
      ...patch,
    });
    const result = await run(tracker);
    await tracker.close();
    return result;
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Everything counts as copied and proven. */
async function clear(tracker: Tracker): Promise<void> {
  for (let run = tracker.nextDirty(0, 0); run !== null; run = tracker.nextDirty(0, run.offset)) {
    tracker.numbered(tracker.take(0, run.offset, run.length), 1, 0);
  }
  tracker.hubDurable(1);
  await tracker.coolIdle();
}

function nanosecondsEach(count: number, run: (index: number) => void): number {
  for (let index = 0; index < count / 4; index += 1) run(index);
  const start = process.hrtime.bigint();
  for (let index = 0; index < count; index += 1) run(index);
  return Number(process.hrtime.bigint() - start) / count;
}

async function hotPath(): Promise<void> {
  await withTracker({}, TIB, async (tracker) => {
    await clear(tracker);
    const extents = 1024;
    for (let extent = 0; extent < extents; extent += 1) {
      await tracker.activate(0, extent * EXTENT_BYTES, 4096);
      tracker.end(0, extent * EXTENT_BYTES, 4096, tracker.takeTicket(), 2);
    }
    const offsets = Float64Array.from({ length: 65_536 }, () => Math.floor(Math.random() * extents * 1024) * 4096);
    const offsetAt = (index: number): number => offsets[index & 65_535] ?? 0;
    let number = 2;
    const streamed = nanosecondsEach(4_000_000, (index) => {
      const offset = offsetAt(index);
      if (!tracker.begin(0, offset, 4096)) throw new Error('not hot');
      number += 1;
      tracker.end(0, offset, 4096, tracker.takeTicket(), number);
    });
    const marked = nanosecondsEach(4_000_000, (index) => {
      const offset = offsetAt(index);
      if (!tracker.begin(0, offset, 4096)) throw new Error('not hot');
      tracker.setDirty(0, offset, 4096);
      tracker.end(0, offset, 4096, tracker.takeTicket(), 0);
    });
    console.log(`begin + end, hot, 4 KiB at random:            ${streamed.toFixed(0)} ns`);
    console.log(`begin + setDirty + end, hot, 4 KiB at random: ${marked.toFixed(0)} ns`);
  });
}

async function memory(): Promise<void> {
  for (const tebibytes of [1, 16, 64]) {
    await settleMemory();
    const before = process.memoryUsage();
    const started = process.hrtime.bigint();
    await withTracker({}, tebibytes * TIB, async (tracker) => {
      const openMs = Number(process.hrtime.bigint() - started) / 1e6;
      await settleMemory();
      const after = process.memoryUsage();
      const taken = after.arrayBuffers + after.heapUsed - before.arrayBuffers - before.heapUsed;
      const each = (taken / tebibytes / 1024 ** 2).toFixed(2);
      console.log(
        `${tebibytes} TiB: ${each} MiB per TiB, made in ${openMs.toFixed(0)} ms, ${tracker.dirtyBytes} marked`,
      );
    });
  }
}

/** Needs --expose-gc to be exact. */
async function settleMemory(): Promise<void> {
  for (let round = 0; round < 4; round += 1) {
    globalThis.gc?.();
    await setImmediate();
  }
}

async function finding(): Promise<void> {
  await withTracker({}, 64 * TIB, async (tracker) => {
    await clear(tracker);
    const positions = Array.from({ length: 64 }, (_, index) => index * TIB + 511 * GIB);
    for (const position of positions) tracker.setDirty(0, position, 4096);
    const each = nanosecondsEach(6400, (index) => {
      const found = tracker.nextDirty(0, (index % 64) * TIB);
      if (found?.offset !== positions[index % 64]) throw new Error('not found');
    });
    console.log(`next dirty run, half a TiB of nothing before it: ${(each / 1000).toFixed(1)} µs`);
  });
}

async function activating(durability: 'host' | 'process', depth: number, isGap: boolean): Promise<void> {
  await withTracker({ durability }, TIB, async (tracker) => {
    await clear(tracker);
    const count = 20_000;
    let left = count;
    let number = 1;
    let sinceProof = 0;
    const worker = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        const offset = Math.floor(Math.random() * 16 * 1024 * 1024) * 4096;
        if (!tracker.begin(0, offset, 4096)) await tracker.activate(0, offset, 4096);
        if (isGap) {
          tracker.setDirty(0, offset, 4096);
          tracker.end(0, offset, 4096, tracker.takeTicket(), 0);
          continue;
        }
        number += 1;
        tracker.end(0, offset, 4096, tracker.takeTicket(), number);
        sinceProof += 1;
        if (sinceProof < 256) continue;
        sinceProof = 0;
        tracker.hubDurable(number);
        tracker.upstreamFlushed(0, tracker.takeTicket());
      }
    };
    const start = process.hrtime.bigint();
    await Promise.all(Array.from({ length: depth }, worker));
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const rate = (count / seconds).toFixed(0);
    const what = isGap ? 'in a gap' : 'streamed';
    console.log(`marks over 64 GiB at random, ${what}, ${durability}, depth ${depth}: ${rate} per second`);
  });
}

await hotPath();
await finding();
for (const durability of ['host', 'process'] as const) {
  for (const depth of [1, 32]) await activating(durability, depth, false);
  await activating(durability, 32, true);
}
await memory();
