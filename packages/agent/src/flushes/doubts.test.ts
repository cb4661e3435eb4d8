import {
  type BlockDevice,
  type BlockRequest,
  Command,
  flushDevice,
  NbdError,
  readBytes,
  trimRange,
  writeBytes,
} from '@rephub/nbd';
import { silentLogger } from '@rephub/platform';
import { FrameType } from '@rephub/protocol';
import { describe, expect, it, test } from 'vitest';
import { digest, NAME_DIGITS } from '../digest.js';
import { type DoubtedVolume, DoubtNote } from './doubt-note.js';
import { Doubts } from './doubts.js';
import { FlushDebt } from './flush-debt.js';
import { readRegion } from '../link/region-reader.js';
import { outcomeOf } from '../testing/upstream-kit.js';
import { PretendingDevice } from '../testing/pretending-device.js';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { DISK_BYTES, volumeKit, type VolumeKit } from '../testing/volume-kit.js';
import { type UpstreamOptions } from '../upstream/upstream-parts.js';

const KIB = 1024;
const LENGTH = 64 * KIB;
const data = (fill: number, length = LENGTH): Buffer => Buffer.alloc(length, fill);

async function setUp(upstream: Partial<UpstreamOptions> = {}) {
  const disk = new PretendingDevice(DISK_BYTES);
  const kit = await volumeKit({ disk, upstream, policy: { retries: 0, delayMs: 10, exponential: false } });
  const outcome = (work: Promise<unknown>): Promise<number> => kit.run(outcomeOf(work));
  return { ...kit, disk, outcome, flush: () => outcome(flushDevice(kit.volume)) };
}

/** The hub has all that was sent, durably, and so it goes on until nothing is left to do. */
async function settle({ platform, mirror, tracker, volume, run }: VolumeKit): Promise<void> {
  for (let turn = 0; turn < 40; turn++) {
    mirror.wantSpan();
    await platform.clock.advance(500);
    mirror.hurry();
    mirror.acknowledged(mirror.lastNumber, mirror.lastNumber);
    await run(outcomeOf(flushDevice(volume)));
  }
  await run(tracker.coolIdle());
}

/** What the hub holds at an offset by the records that it was sent, `length` bytes. */
function held({ records }: VolumeKit, offset: number, length: number): Buffer | 'unreadable' {
  const bytes = Buffer.alloc(length);
  let isUnreadable = false;
  for (const record of records) {
    const { type } = record;
    const [from, to] = [Math.max(offset, record.offset), Math.min(offset + length, record.offset + record.length)];
    if (from >= to || (type !== FrameType.Write && type !== FrameType.Discard && type !== FrameType.Unreadable))
      continue;
    isUnreadable = type === FrameType.Unreadable;
    if (type === FrameType.Write) record.data.copy(bytes, from - offset, from - record.offset, to - record.offset);
    else bytes.fill(0, from - offset, to - offset);
  }
  return isUnreadable ? 'unreadable' : bytes;
}

/** The same volume in the next process. */
function nextVolume(index = 0, doubted: () => void = () => undefined): DoubtedVolume & { readonly debt: FlushDebt } {
  const doubts = new Doubts();
  return {
    ...{ index, name: `disk${index}`, doubts },
    get mayHaveDropped() {
      return doubts.bytes > 0;
    },
    debt: new FlushDebt(true, { mayHaveDropped: false, mayHaveLost: false }, doubted),
  };
}

/** A disk whose cache goes with a flush that fails: readers see what was there before. */
class DroppingDevice extends ScriptedDevice {
  flushErrors = 0;
  #content = Buffer.alloc(DISK_BYTES);
  #stable = Buffer.alloc(DISK_BYTES);

  override submit(request: BlockRequest): void {
    const { command, offset, length } = request;
    const fails = command === Command.Flush && this.flushErrors-- > 0;
    if (fails) this.#content = Buffer.from(this.#stable);
    else if (command === Command.Flush) this.#stable = Buffer.from(this.#content);
    else if (command === Command.Write) Buffer.concat(request.data).copy(this.#content, offset);
    else if (command === Command.Read) request.data.push(Buffer.from(this.#content.subarray(offset, offset + length)));
    else {
      super.submit(request);
      return;
    }
    request.complete(fails ? NbdError.Enospc : NbdError.Ok);
  }
}

test('what was copied while a failed flush had dropped it is copied again when it has been played (promise CLEAR)', async () => {
  const disk = new DroppingDevice(DISK_BYTES, { contexts: [] });
  const kit = await volumeKit({ disk });
  const { volume, tracker, platform, run } = kit;
  expect(await run(outcomeOf(writeBytes(volume, 0, data(1))))).toBe(0);
  disk.flushErrors = 1;
  expect(await run(outcomeOf(flushDevice(volume)))).toBe(NbdError.Enospc);
  volume.contentUnknown(0, LENGTH);
  await platform.clock.advance(100);
  expect(held(kit, 0, LENGTH)).toEqual(Buffer.alloc(LENGTH));
  await settle(kit);
  expect(tracker.hasMarks()).toBe(false);
  expect((await readBytes(volume, 0, LENGTH)).equals(data(1))).toBe(true);
  expect(held(kit, 0, LENGTH)).toEqual(data(1));
});

test('what the hub has read while a failed flush had dropped it is copied when it has been played (promise SUPERSET)', async () => {
  const disk = new DroppingDevice(DISK_BYTES, { contexts: [] });
  const kit = await volumeKit({ disk });
  const { volume, mirror, platform, run } = kit;
  expect(await run(outcomeOf(writeBytes(volume, 0, data(1))))).toBe(0);
  disk.flushErrors = 1;
  expect(await run(outcomeOf(flushDevice(volume)))).toBe(NbdError.Enospc);
  const region = { tag: 1, volume: volume.index, offset: 0, length: LENGTH };
  expect(await run(readRegion([volume], mirror, region))).toBeNull();
  await platform.clock.advance(100);
  expect(data(0).equals(held(kit, 0, LENGTH) as Buffer)).toBe(true);
  await settle(kit);
  expect(kit.tracker.hasMarks()).toBe(false);
  expect((await readBytes(volume, 0, LENGTH)).equals(data(1))).toBe(true);
  expect(data(1).equals(held(kit, 0, LENGTH) as Buffer)).toBe(true);
});

test('what the hub has read of a volume with nothing unflushed is nothing that its guest may have lost (promise GUEST)', async () => {
  const { volume, mirror, run } = await setUp();
  expect(await run(outcomeOf(writeBytes(volume, 0, data(1))))).toBe(0);
  expect(await run(outcomeOf(flushDevice(volume)))).toBe(0);
  const region = { tag: 1, volume: volume.index, offset: 0, length: LENGTH };
  expect(await run(readRegion([volume], mirror, region))).toBeNull();
  volume.unflushedLost(false);
  expect(volume.debt.isDue).toBe(false);
});

describe('what a failed flush has dropped, and readers see still (promise CLEAR)', () => {
  it('of a write that had failed: is stable before its mark is cleared', async () => {
    const kit = await setUp();
    const { volume, disk, outcome, flush, tracker } = kit;
    expect(await outcome(writeBytes(volume, 0, data(1)))).toBe(0);
    expect(await flush()).toBe(0);
    disk.failsAfterwards = true;
    disk.fail(Command.Write, NbdError.Eio, 1);
    expect(await outcome(writeBytes(volume, 0, data(2)))).toBe(NbdError.Eio);
    await kit.platform.clock.advance(1000);
    disk.fail(Command.Flush, NbdError.Eio, 1);
    expect(await flush()).toBe(NbdError.Eio);
    disk.heal();
    expect((await kit.run(readBytes(volume, 0, LENGTH))).equals(data(2))).toBe(true);
    await settle(kit);
    expect(tracker.hasMarks()).toBe(false);
    expect(disk.stable.subarray(0, LENGTH).equals(data(2))).toBe(true);
    expect(held(kit, 0, LENGTH)).toEqual(data(2));
    expect(volume.doubts.bytes).toBe(0);
  });

  it('without anything kept: no flush that was under way is believed, and all that may be gone is written again', async () => {
    const kit = await setUp({ replayBytes: 0 });
    const { volume, disk, flush, tracker, outcome } = kit;
    expect(await outcome(writeBytes(volume, 0, data(1)))).toBe(0);
    expect(await outcome(trimRange(volume, LENGTH, LENGTH))).toBe(0);
    disk.fail(Command.Flush, NbdError.Eio, 1);
    disk.later = (run) => void kit.platform.clock.after(5, run);
    const both = [outcomeOf(flushDevice(volume)), outcomeOf(flushDevice(volume))];
    const errors = await kit.run(Promise.all(both));
    expect(errors).toContain(NbdError.Eio);
    disk.later = null;
    expect(tracker.hasMarks()).toBe(true);
    expect(disk.stable.subarray(0, LENGTH).equals(data(0))).toBe(true);
    await settle(kit);
    expect(await flush()).toBe(0);
    expect(tracker.hasMarks()).toBe(false);
    expect(disk.stable.subarray(0, LENGTH).equals(data(1))).toBe(true);
    expect(held(kit, 0, LENGTH)).toEqual(data(1));
  });

  it('keeps its mark while it cannot be written again, and what the guest writes there meanwhile wins', async () => {
    const kit = await setUp({ replayBytes: 0 });
    const { volume, disk, tracker, outcome } = kit;
    expect(await outcome(writeBytes(volume, 0, data(1)))).toBe(0);
    kit.mirror.linkDown();
    disk.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(volume))).toBe(NbdError.Eio);
    for (let turn = 0; turn < 3; turn++) await outcome(flushDevice(volume));
    await kit.run(tracker.coolIdle());
    expect(tracker.hasMarks()).toBe(true);
    expect(await outcome(writeBytes(volume, 0, data(3, 4 * KIB)))).toBe(0);
    kit.mirror.linkUp({ congested: false, send: () => undefined });
    await settle(kit);
    expect(tracker.hasMarks()).toBe(false);
    expect(disk.stable.subarray(0, LENGTH).equals(Buffer.concat([data(3, 4 * KIB), data(1, 60 * KIB)]))).toBe(true);
  });

  it('and can never be written again: the hub is told that it is unreadable, and nothing else there', async () => {
    const kit = await setUp({ replayBytes: 0 });
    const { volume, disk, tracker, outcome } = kit;
    expect(await outcome(writeBytes(volume, 0, data(1, 8 * KIB)))).toBe(0);
    expect(await outcome(writeBytes(volume, 16 * KIB, data(2, 48 * KIB)))).toBe(0);
    volume.doubts.add(4 * KIB, 8 * KIB);
    volume.contentUnknown(0, LENGTH);
    disk.fail(Command.Write, NbdError.Enospc, Infinity, 0, LENGTH);
    disk.fail(Command.WriteZeroes, NbdError.Enospc, Infinity, 0, LENGTH);
    await settle(kit);
    expect(tracker.hasMarks()).toBe(false);
    expect(kit.unreadable.map(([offset, length]) => [offset, length])).toEqual([
      [4 * KIB, 4 * KIB],
      [8 * KIB, 4 * KIB],
    ]);
    expect(held(kit, 0, 4 * KIB)).toEqual(data(1, 4 * KIB));
    expect(held(kit, 4 * KIB, 8 * KIB)).toBe('unreadable');
    expect(held(kit, 16 * KIB, 48 * KIB)).toEqual(data(2, 48 * KIB));
  });

  it('is in doubt again when another flush fails while it is being written again', async () => {
    const doubts = new Doubts();
    doubts.add(0, 8 * KIB);
    const shown = [0, 4 * KIB].map((offset) => ({ offset, length: 4 * KIB, data: [data(1, 4 * KIB)] }));
    const written: number[] = [];
    const disk = new PretendingDevice(DISK_BYTES);
    const device: BlockDevice = {
      ...{ sizeBytes: disk.sizeBytes, abilities: disk.abilities, limits: disk.limits },
      submit: (request) => {
        written.push(request.offset);
        // The first part has been written, the second one is on its way.
        if (written.length === 2) doubts.add(0, 8 * KIB);
        request.complete(0);
      },
      close: () => Promise.resolve(),
    };
    expect(await doubts.settle(device, shown)).toBe(null);
    expect(doubts.within(0, 8 * KIB)).toEqual([{ offset: 0, length: 8 * KIB }]);
    expect(await doubts.settle(device, shown)).toEqual([]);
    expect(written).toEqual([0, 4 * KIB, 0, 4 * KIB]);
    expect(doubts.bytes).toBe(0);
  });

  it('is not forgotten by the next process: whatever is marked then may be that, until it was written again', async () => {
    const kit = await setUp({ replayBytes: 0 });
    const { volume, disk, tracker, outcome } = kit;
    const note = new DoubtNote(tracker, silentLogger, () => [volume]);
    note.recall();
    expect(volume.doubts.bytes).toBe(0);
    expect(await outcome(writeBytes(volume, 0, data(1)))).toBe(0);
    kit.mirror.linkDown();
    disk.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(volume))).toBe(NbdError.Eio);
    note.look();
    const later = nextVolume();
    const laterNote = new DoubtNote(tracker, silentLogger, () => [later]);
    laterNote.recall();
    expect(later.doubts.within(0, LENGTH)).toEqual([{ offset: 0, length: LENGTH }]);
    expect(later.doubts.bytes).toBe([...tracker.runs(0)].reduce((sum, { length }) => sum + length, 0));
    kit.mirror.linkUp({ congested: false, send: () => undefined });
    await settle(kit);
    note.look();
    const last = nextVolume();
    new DoubtNote(tracker, silentLogger, () => [last]).recall();
    expect(last.doubts.bytes).toBe(0);
  });

  it('is noted for the next process as soon as a flush has failed: this one may not live to play it all again', async () => {
    const disk = new PretendingDevice(DISK_BYTES);
    const seen: { note: DoubtNote | null } = { note: null };
    const kit = await volumeKit({
      disk,
      policy: { retries: 3, delayMs: 10, exponential: false },
      doubted: () => {
        if (disk.seen.at(-1) !== Command.Flush) return;
        // What is played again now does not arrive.
        disk.holding = true;
        seen.note?.look();
      },
    });
    const { volume, tracker, platform, run } = kit;
    seen.note = new DoubtNote(tracker, silentLogger, () => [volume]);
    const recalled = (): DoubtedVolume => {
      const next = nextVolume();
      new DoubtNote(tracker, silentLogger, () => [next]).recall();
      return next;
    };
    expect(await run(outcomeOf(writeBytes(volume, 0, data(1))))).toBe(0);
    disk.fail(Command.Flush, NbdError.Eio, 1);
    const flushed = outcomeOf(flushDevice(volume));
    await platform.clock.advance(1000);
    expect(volume.doubts.bytes).toBe(0);
    const next = recalled();
    expect(next.doubts.bytes).toBeGreaterThanOrEqual(LENGTH);
    expect(next.debt.isOwed).toBe(true);
    disk.letGo();
    expect(await run(flushed)).toBe(0);
    expect(disk.stable.subarray(0, LENGTH).equals(data(1))).toBe(true);
    seen.note.look();
    expect(recalled().doubts.bytes).toBe(0);
  });

  it('and is recalled of every volume, though what is recalled of one is noted anew at once', async () => {
    const { tracker } = await setUp();
    const seen: { note: DoubtNote | null } = { note: null };
    const volumes = [0, 1].map((index) => nextVolume(index, () => seen.note?.look()));
    const note = new DoubtNote(tracker, silentLogger, () => volumes);
    for (const volume of volumes) volume.debt.owe();
    note.look();
    const next = [0, 1].map((index) => nextVolume(index, () => seen.note?.look()));
    seen.note = new DoubtNote(tracker, silentLogger, () => next);
    seen.note.recall();
    expect(next.map(({ debt }) => debt.isOwed)).toEqual([true, true]);
  });

  it('and stays noted of a volume that is away until it is back, and has been told', async () => {
    const { tracker, run } = await setUp();
    const withBoth = [0, 1].map((index) => nextVolume(index));
    for (const { debt } of withBoth) debt.owe();
    new DoubtNote(tracker, silentLogger, () => withBoth).look();
    await run(Promise.resolve());
    const alone = nextVolume(0);
    const without = new DoubtNote(tracker, silentLogger, () => [alone]);
    without.recall();
    alone.debt.settle();
    without.look();
    await run(Promise.resolve());
    expect(tracker.identity.notes['flush-error-owed']).toBe(digest('disk1', NAME_DIGITS));
    const back = [0, 1].map((index) => nextVolume(index));
    const withBothAgain = new DoubtNote(tracker, silentLogger, () => back);
    withBothAgain.recall();
    expect(back.map(({ debt }) => debt.isOwed)).toEqual([false, true]);
    back[1]?.debt.settle();
    withBothAgain.look();
    await run(Promise.resolve());
    expect(tracker.identity.notes['flush-error-owed']).toBe('');
  });

  it('and is noted by one save at a time, and by as few as it takes, however often it changes', async () => {
    const { tracker, run } = await setUp();
    const saved: string[] = [];
    const saves: (() => void)[] = [];
    const slow = {
      identity: { notes: {} as Record<string, string> },
      saveIdentity: ({ notes }: { notes: Record<string, string> }) => {
        slow.identity.notes = notes;
        saved.push(notes['flush-error-owed'] ?? '');
        return new Promise<void>((resolve) => saves.push(resolve));
      },
      runs: () => tracker.runs(0),
    };
    const { debt, ...flapping } = nextVolume();
    const note = new DoubtNote(slow as unknown as typeof tracker, silentLogger, () => [{ ...flapping, debt }]);
    for (let turn = 0; turn < 100; turn++) {
      if (debt.isOwed) debt.settle();
      else debt.owe();
      note.look();
    }
    const noted = digest('disk0', NAME_DIGITS);
    expect(saved).toEqual([noted]);
    saves.shift()?.();
    await run(Promise.resolve());
    expect(saved).toEqual([noted, '']);
    saves.shift()?.();
    await run(Promise.resolve());
    expect(saved).toEqual([noted, '']);
  });

  it('and is more than may be written again: so much of it is, and it says so', () => {
    const doubts = new Doubts();
    const gibibyte = 1024 ** 3;
    const added = Array.from({ length: 10 }, (_, at) => doubts.add(at * gibibyte, gibibyte));
    expect(added).toEqual([true, true, true, true, true, true, true, true, false, false]);
    expect(doubts.add(0, gibibyte)).toBe(true);
    expect(doubts.bytes).toBe(8 * gibibyte);
  });
});
