import { StorageFault } from '@rephub/platform';
import { SimClock, SimFiles, SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { EXTENT_BYTES } from './geometry.js';
import type { TrackerOptions } from './options.js';
import { Tracker } from './tracker.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const DIRECTORY = '/state/vm1';

interface World {
  files: SimFiles;
  readonly clock: SimClock;
  readonly randomness: SeededRandomness;
}

const world = (): World => ({ files: new SimFiles(), clock: new SimClock(), randomness: new SeededRandomness(7) });

const optionsOf = (patch: Partial<TrackerOptions> = {}): TrackerOptions => ({
  directory: DIRECTORY,
  group: 'vm1',
  hotExtents: 16,
  volumes: [{ index: 0, name: 'disk0', sizeBytes: 1024 * MIB }],
  hooks: { wantsFlush: () => undefined, failed: () => undefined },
  ...patch,
});

/** Marks that are only written, in this run of the host. */
const unsynced = ({ files }: World): Partial<TrackerOptions> => ({ durability: 'process', bootId: files.bootId });

const open = (here: World, patch: Partial<TrackerOptions> = {}): Promise<Tracker> =>
  Tracker.open(here, optionsOf(patch));

/** All dirty blocks are copied, numbered and proven; nothing is left but hot extents. */
function copyAll(tracker: Tracker, volume = 0, number = 1): void {
  for (let run = tracker.nextDirty(volume, 0); run !== null; run = tracker.nextDirty(volume, 0)) {
    tracker.numbered(tracker.take(volume, run.offset, run.length), number, tracker.takeTicket());
  }
  tracker.hubDurable(number);
  tracker.upstreamFlushed(0, tracker.takeTicket());
}

/** A tracker without any mark. */
async function clean(here: World, patch: Partial<TrackerOptions> = {}): Promise<Tracker> {
  const tracker = await open(here, patch);
  copyAll(tracker);
  await tracker.coolIdle();
  expect(tracker.hasMarks()).toBe(false);
  return tracker;
}

async function write(tracker: Tracker, offset: number, length: number, number: number): Promise<number> {
  if (!tracker.begin(0, offset, length)) await tracker.activate(0, offset, length);
  const ticket = tracker.takeTicket();
  if (number === 0) tracker.setDirty(0, offset, length);
  tracker.end(0, offset, length, ticket, number);
  return ticket;
}

async function powerCut(here: World, fate: 'keep' | 'lose' = 'lose'): Promise<void> {
  here.files = here.files.crash({ seed: 1, fate });
  await Promise.resolve();
}

describe('a tracker', () => {
  it('marks every block when there was no state, also when it dies before anything was copied', async () => {
    const here = world();
    const tracker = await open(here);
    expect(tracker.found).toBe('new');
    expect(tracker.dirtyBytes).toBe(1024 * MIB);
    expect(tracker.identity.session).toBe(1);
    await powerCut(here);
    const again = await open(here);
    expect(again.found).toBe('marked');
    expect(again.dirtyBytes).toBe(1024 * MIB);
    expect(again.identity).toMatchObject({
      session: 2,
      agentId: tracker.identity.agentId,
      line: tracker.identity.line,
    });
  });

  it('finds nothing after an orderly stop with everything proven', async () => {
    const here = world();
    const tracker = await clean(here);
    const ticket = await write(tracker, 0, 4096, 2);
    tracker.hubDurable(2);
    tracker.upstreamFlushed(0, ticket);
    expect(await tracker.closeClean(2)).toBe(true);
    const again = await open(here);
    expect(again.found).toBe('clean');
    expect(again.hasMarks()).toBe(false);
    expect(again.identity).toMatchObject({ lastNumber: 2, durableNumber: 2, restsOn: 2, session: 2 });
    await powerCut(here);
    expect((await open(here)).found).toBe('marked');
  });

  it('finds the extent of every write after a power cut', async () => {
    const here = world();
    const tracker = await clean(here);
    await write(tracker, 5 * EXTENT_BYTES - 4096, 8192, 2);
    expect(tracker.begin(0, 4 * EXTENT_BYTES, 1)).toBe(true);
    expect(tracker.begin(0, 6 * EXTENT_BYTES, 1)).toBe(false);
    await powerCut(here);
    const again = await open(here);
    expect(again.found).toBe('marked');
    expect([...again.runs(0)]).toEqual([{ offset: 4 * EXTENT_BYTES, length: 2 * EXTENT_BYTES }]);
    expect(again.nextDirty(0, 0)).toEqual({ offset: 4 * EXTENT_BYTES, length: 2 * EXTENT_BYTES });
  });

  it('finds only the blocks written when an unproven extent was cooled, and nothing once they are proven', async () => {
    const here = world();
    const tracker = await clean(here);
    const ticket = await write(tracker, 64 * KIB, 4096, 2);
    await write(tracker, 50 * MIB, 4096, 0);
    expect(await tracker.coolIdle()).toBe(0);
    expect([...tracker.runs(0)]).toEqual([
      { offset: 64 * KIB, length: 64 * KIB },
      { offset: 50 * MIB, length: 64 * KIB },
    ]);
    expect([tracker.dirtyBytes, tracker.pendingBytes]).toEqual([64 * KIB, 64 * KIB]);
    tracker.hubDurable(2);
    expect(tracker.pendingBytes).toBe(64 * KIB);
    tracker.upstreamFlushed(0, ticket);
    expect(tracker.pendingBytes).toBe(0);
    await tracker.coolIdle();
    await powerCut(here);
    expect([...(await open(here)).runs(0)]).toEqual([{ offset: 50 * MIB, length: 64 * KIB }]);
  });

  it('keeps serving writes over many extents when the hub is away and no flush comes', async () => {
    const here = world();
    let asked = 0;
    const hooks = { wantsFlush: () => (asked += 1), failed: () => undefined };
    const tracker = await clean(here, { hooks });
    for (let extent = 0; extent < 256; extent += 1) await write(tracker, extent * EXTENT_BYTES, 4096, extent + 2);
    // Without the hub a flush would prove nothing.
    expect(asked).toBe(0);
    expect(tracker.hotExtents).toBeLessThanOrEqual(16);
    await powerCut(here);
    const again = await open(here);
    const runs = [...again.runs(0)];
    const marked = runs.reduce((sum, run) => sum + run.length, 0);
    expect(runs.every((run) => run.offset % EXTENT_BYTES === 0)).toBe(true);
    expect(marked).toBeGreaterThanOrEqual(256 * 64 * KIB);
    expect(marked).toBeLessThanOrEqual(256 * 64 * KIB + 16 * EXTENT_BYTES);
  });

  it('asks for one flush at a time when slots run short and only a flush is missing for proof', async () => {
    const here = world();
    let asked = 0;
    const tracker = await clean(here, {
      hooks: { wantsFlush: () => (asked += 1), failed: () => undefined },
    });
    let number = 1;
    const writeAndAcknowledge = async (extent: number): Promise<void> => {
      number += 1;
      await write(tracker, extent * EXTENT_BYTES, 4096, number);
      tracker.hubDurable(number);
    };
    for (let extent = 0; extent < 15; extent += 1) await writeAndAcknowledge(extent);
    expect(asked).toBe(1);
    tracker.upstreamFlushed(0, tracker.takeTicket());
    await here.clock.settle();
    const before = here.files.changes;
    for (let extent = 15; extent < 25; extent += 1) await writeAndAcknowledge(extent);
    // Proven extents make room without a page being written: one write and one sync each.
    expect(here.files.changes - before).toBe(20);
  });

  it('lets a range larger than all slots pass with fine marks', async () => {
    const here = world();
    const tracker = await clean(here);
    expect(tracker.begin(0, 0, 1024 * MIB)).toBe(false);
    await tracker.activate(0, 0, 1024 * MIB);
    const copy = here.files.crash({ seed: 1, fate: 'lose' });
    const after = await open({ ...here, files: copy });
    expect([...after.runs(0)]).toEqual([{ offset: 0, length: 1024 * MIB }]);
  });

  it('drops the marks of a large range when its record is proven', async () => {
    const here = world();
    const tracker = await clean(here);
    await tracker.activate(0, 64 * MIB, 512 * MIB);
    tracker.end(0, 64 * MIB, 512 * MIB, tracker.takeTicket(), 2);
    expect(tracker.pendingBytes).toBe(512 * MIB);
    tracker.hubDurable(2);
    tracker.upstreamFlushed(0, tracker.takeTicket());
    expect(tracker.hasMarks()).toBe(false);
  });

  it('waits when all slots have writes in flight, and goes on when one ends', async () => {
    const here = world();
    const tracker = await clean(here);
    for (let extent = 0; extent < 16; extent += 1) await tracker.activate(0, extent * EXTENT_BYTES, 1);
    let isActive = false;
    const waiting = tracker.activate(0, 20 * EXTENT_BYTES, 1).then(() => (isActive = true));
    await here.clock.settle();
    expect(isActive).toBe(false);
    tracker.end(0, 3 * EXTENT_BYTES, 1, tracker.takeTicket(), 2);
    await waiting;
    expect(tracker.begin(0, 3 * EXTENT_BYTES, 1)).toBe(false);
  });

  it('puts activations that wait together into one transaction', async () => {
    const here = world();
    const tracker = await clean(here);
    const before = here.files.changes;
    await Promise.all(Array.from({ length: 12 }, (_, extent) => tracker.activate(0, extent * EXTENT_BYTES, 1)));
    expect(here.files.changes - before).toBe(2);
  });

  it('syncs nothing after opening with durability process', async () => {
    const here = world();
    const tracker = await clean(here, unsynced(here));
    const before = here.files.changes;
    await tracker.activate(0, 0, 1);
    expect(here.files.changes - before).toBe(1);
    await powerCut(here, 'keep');
    expect([...(await open(here, unsynced(here))).runs(0)]).toEqual([{ offset: 0, length: EXTENT_BYTES }]);
  });

  it('relies on nothing that a killed process wrote without syncing it', async () => {
    const here = world();
    const first = await clean(here, unsynced(here));
    await write(first, 0, 4096, 2);
    await first.close();
    const second = await open(here, { bootId: here.files.bootId });
    expect(second.begin(0, 0, 4096)).toBe(true);
    await powerCut(here, 'lose');
    expect([...(await open(here)).runs(0)]).toEqual([{ offset: 0, length: EXTENT_BYTES }]);
  });

  it('makes fine marks durable that a killed process wrote without syncing them', async () => {
    const here = world();
    const first = await clean(here, unsynced(here));
    await write(first, 0, 4096, 0);
    await first.coolIdle();
    await first.close();
    await (await open(here, { bootId: here.files.bootId })).close();
    await powerCut(here, 'lose');
    expect([...(await open(here)).runs(0)]).toEqual([{ offset: 0, length: 64 * KIB }]);
  });

  it('writes what was cleared by itself after a second', async () => {
    const here = world();
    const tracker = await open(here);
    copyAll(tracker);
    await here.clock.advance(1000);
    await powerCut(here);
    expect((await open(here)).hasMarks()).toBe(false);
  });

  it('gives lost records back: copies and guest writes above the number are dirty again', async () => {
    const here = world();
    const tracker = await clean(here);
    await write(tracker, 0, 4096, 5);
    await write(tracker, 9 * MIB, 4096, 6);
    await write(tracker, 100 * MIB, 4096, 0);
    const kept = tracker.take(0, 100 * MIB, 64 * KIB);
    tracker.numbered(kept, 4, tracker.takeTicket());
    tracker.putBackAbove(5);
    expect(tracker.nextDirty(0, 0)).toEqual({ offset: 9 * MIB, length: 64 * KIB });
    expect(tracker.nextDirty(0, 10 * MIB)).toBeNull();
    tracker.putBack(kept);
    expect(tracker.nextDirty(0, 10 * MIB)).toEqual({ offset: 100 * MIB, length: 64 * KIB });
  });

  it('leaves alone what is proven when records are lost', async () => {
    const here = world();
    const tracker = await clean(here);
    const ticket = await write(tracker, 0, 4096, 5);
    tracker.hubDurable(5);
    tracker.upstreamFlushed(0, ticket);
    await write(tracker, 9 * MIB, 4096, 6);
    tracker.putBackAbove(0);
    expect([tracker.nextDirty(0, 0), tracker.dirtyBytes]).toEqual([{ offset: 9 * MIB, length: 64 * KIB }, 64 * KIB]);
  });

  it('keeps a block dirty that was dirtied again while it was being copied', async () => {
    const here = world();
    const tracker = await clean(here);
    await write(tracker, 0, 4096, 0);
    const id = tracker.take(0, 0, 64 * KIB);
    await write(tracker, 4096, 4096, 0);
    tracker.numbered(id, 9, tracker.takeTicket());
    tracker.hubDurable(9);
    tracker.upstreamFlushed(0, tracker.takeTicket());
    expect(tracker.dirtyBytes).toBe(64 * KIB);
  });

  it('clips the last block to the size of the volume', async () => {
    const here = world();
    const tracker = await open(here, { volumes: [{ index: 3, name: 'odd', sizeBytes: 100 * KIB }] });
    expect(tracker.dirtyBytes).toBe(100 * KIB);
    expect(tracker.nextDirty(3, 64 * KIB)).toEqual({ offset: 64 * KIB, length: 36 * KIB });
    expect(tracker.nextDirty(3, 100 * KIB)).toBeNull();
    tracker.take(3, 64 * KIB, 36 * KIB);
    expect(tracker.dirtyBytes).toBe(64 * KIB);
    expect(() => tracker.take(3, 4096, 4096)).toThrow('lies on blocks');
  });
});

describe('a tracker whose disk fails', () => {
  it('turns activations away, tells it once, and lets writes pass after distrust; the next start trusts nothing', async () => {
    const here = world();
    const faults: string[] = [];
    const hooks = { wantsFlush: () => undefined, failed: (fault: { code: string }) => faults.push(fault.code) };
    const tracker = await clean(here, { hooks });
    await tracker.activate(0, 0, 1);
    here.files.inject({ operation: 'sync', path: 'hot.log', fault: 'io-error' });
    await expect(tracker.activate(0, 8 * MIB, 1)).rejects.toMatchObject({ code: 'sync-failed' });
    await expect(tracker.activate(0, 12 * MIB, 1)).rejects.toBeInstanceOf(StorageFault);
    expect(faults).toEqual(['sync-failed']);
    expect(tracker.begin(0, 0, 1)).toBe(true);
    await tracker.distrust('hot.log failed');
    expect(tracker.begin(0, 512 * MIB, 1)).toBe(true);
    tracker.end(0, 512 * MIB, 1, tracker.takeTicket(), 7);
    await tracker.activate(0, 0, 1024 * MIB);
    expect(tracker.hasMarks()).toBe(true);
    expect(await tracker.closeClean(7)).toBe(false);
    await powerCut(here);
    const again = await open(here);
    expect(again).toMatchObject({ found: 'untrusted', foundReason: 'hot.log failed', dirtyBytes: 1024 * MIB });
    await again.close();
    expect((await open(here)).found).toBe('marked');
  });

  it('disowns its files at once when they fail, before anybody asks for it', async () => {
    const here = world();
    const tracker = await clean(here);
    await write(tracker, 0, 4096, 0);
    here.files.inject({ operation: 'sync', path: 'disk0.map', fault: 'io-error' });
    await expect(tracker.coolIdle()).rejects.toMatchObject({ code: 'sync-failed' });
    expect(tracker.begin(0, 0, 4096)).toBe(true);
    await here.clock.settle();
    await powerCut(here, 'keep');
    const again = await open(here);
    expect(again.found).toBe('untrusted');
    expect(again.foundReason).toContain('disk0.map');
  });

  it('removes hot.log when the identity cannot be written either', async () => {
    const here = world();
    const tracker = await clean(here);
    here.files.inject({ operation: 'write', path: 'identity', fault: 'io-error', times: Infinity });
    await tracker.distrust('why not');
    await powerCut(here);
    const again = await open(here);
    expect(again.found).toBe('untrusted');
    expect(again.foundFaults[0]).toMatchObject({ code: 'hot-log-missing' });
  });

  it('says so when nothing can be stored, and can be asked again', async () => {
    const here = world();
    const tracker = await clean(here);
    here.files.inject({ operation: 'write', path: 'identity', fault: 'io-error', times: Infinity });
    here.files.inject({ operation: 'remove', path: 'hot.log', fault: 'io-error' });
    await expect(tracker.distrust('why not')).rejects.toMatchObject({ kind: 'storage', code: 'cannot-distrust' });
    expect(tracker.begin(0, 0, 1)).toBe(false);
    await tracker.distrust('why not');
    expect(tracker.begin(0, 0, 1)).toBe(true);
  });

  it('is untrusted when the state cannot be stored at an orderly stop', async () => {
    const here = world();
    const tracker = await clean(here);
    await write(tracker, 0, 4096, 0);
    here.files.inject({ operation: 'sync', path: 'disk0.map', fault: 'io-error' });
    expect(await tracker.closeClean(2)).toBe(false);
    expect((await open(here)).found).toBe('untrusted');
  });
});
