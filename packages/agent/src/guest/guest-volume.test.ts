import {
  BlockRequest,
  Command,
  CommandFlag,
  DeviceError,
  flushDevice,
  NbdError,
  readBytes,
  trimRange,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { inspectState } from '@rephub/bitmap';
import { FrameFlag, FrameType } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import { DISK_BYTES, volumeKit } from '../testing/volume-kit.js';

const KIB = 1024;
const data = (fill: number, length = 4 * KIB): Buffer => Buffer.alloc(length, fill);

async function errorOf(work: Promise<unknown>): Promise<number> {
  try {
    await work;
    return 0;
  } catch (error) {
    if (error instanceof DeviceError) return error.nbdError;
    throw error;
  }
}

describe('a guest write', () => {
  it('becomes one record with its payload, numbered in the order of completion', async () => {
    const { volume, records, run } = await volumeKit();
    await run(writeBytes(volume, 4096, data(1)));
    await run(writeBytes(volume, 0, data(2)));
    expect(records.map(({ type, number, offset }) => [type, number, offset])).toEqual([
      [FrameType.Write, 1, 4096],
      [FrameType.Write, 2, 0],
    ]);
    expect(records[0]?.data.equals(data(1))).toBe(true);
  });

  it('is marked, durably, before upstream sees it (promise SUPERSET)', async () => {
    const { volume, upstream, tracker, platform, run } = await volumeKit();
    upstream.holding = true;
    const before = platform.files.changes;
    const writing = writeBytes(volume, 8 * KIB, data(1));
    await platform.clock.runUntil(() => upstream.seen.length > 0);
    expect(tracker.hotExtents).toBe(1);
    expect(platform.files.changes).toBeGreaterThan(before);
    upstream.letGo();
    await run(writing);
  });

  it.each([
    ['ENOSPC', NbdError.Enospc],
    ['EPERM', NbdError.Eperm],
    ['EIO', NbdError.Eio],
  ])(
    'that upstream refuses with %s gives the guest that error, no record, and a dirty range (promises GUEST, FAILWR)',
    async (_name, error) => {
      const kit = await volumeKit();
      kit.mirror.linkDown();
      kit.upstream.fail(Command.Write, error, 1);
      expect(await kit.run(errorOf(writeBytes(kit.volume, 128 * KIB, data(1))))).toBe(error);
      expect(kit.records).toEqual([]);
      expect(kit.tracker.nextDirty(0, 0)).toEqual({ offset: 128 * KIB, length: 64 * KIB });
    },
  );

  it('that failed is read again from upstream, in a span (promises FAILWR, SPAN)', async () => {
    const kit = await volumeKit();
    await kit.run(writeBytes(kit.volume, 0, data(7)));
    kit.upstream.fail(Command.Write, NbdError.Eio, 1);
    await kit.run(errorOf(writeBytes(kit.volume, 0, data(8))));
    await kit.platform.clock.runUntil(() => kit.ended.length > 0);
    expect(kit.records.map(({ type }) => type)).toEqual([
      FrameType.Write,
      FrameType.SpanBegin,
      FrameType.Write,
      FrameType.Discard,
      FrameType.SpanEnd,
    ]);
    expect(kit.records[2]?.flags).toBe(FrameFlag.Copied);
    expect(kit.records[2]?.data.equals(data(7))).toBe(true);
    expect(kit.tracker.anyDirty()).toBe(false);
  });

  it('that overlaps one in flight waits for it: records and upstream agree on the winner (promise ORD)', async () => {
    const { volume, upstream, records, platform, run } = await volumeKit();
    await run(writeBytes(volume, 0, data(1)));
    upstream.holding = true;
    const both = Promise.all([writeBytes(volume, 0, data(2)), writeBytes(volume, 2 * KIB, data(3))]);
    await platform.clock.settle();
    expect(upstream.seen.filter((command) => command === Command.Write)).toHaveLength(2);
    upstream.letGo();
    await run(both);
    expect(records.map(({ number, offset }) => [number, offset])).toEqual([
      [1, 0],
      [2, 0],
      [3, 2 * KIB],
    ]);
    expect((await run(readBytes(volume, 0, 6 * KIB))).equals(Buffer.concat([data(2, 2 * KIB), data(3)]))).toBe(true);
  });

  it('with FUA, where upstream has only flush, is written and flushed before it is answered (promise FLUSH)', async () => {
    const { volume, upstream, run } = await volumeKit({ abilities: { fua: false } });
    expect(volume.abilities.fua).toBe(true);
    await run(writeBytes(volume, 0, data(1), true));
    expect(upstream.seen).toEqual([Command.Write, Command.Flush]);
  });
});

describe('a window that is full (promise BOUND)', () => {
  it('is pulled ahead of: writes are answered and marked, and copied when the hub has caught up', async () => {
    const kit = await volumeKit({ windowBytes: 64 * KIB });
    for (let at = 0; at < 64; at++) await kit.run(writeBytes(kit.volume, at * 4 * KIB, data(at + 1)));
    expect(kit.mirror.window.bytes).toBeLessThanOrEqual(64 * KIB);
    expect(kit.mirror.state).toBe('gap');
    expect(kit.mirror.counters.pulledAheadBytes).toBeGreaterThan(0);
    expect(kit.mirror.exposedMs()).not.toBeNull();
    const acknowledge = (): void => {
      kit.mirror.acknowledged(kit.mirror.lastNumber, kit.mirror.lastNumber);
      kit.platform.clock.after(1, acknowledge);
    };
    acknowledge();
    await kit.platform.clock.runUntil(() => kit.mirror.state === 'streaming' && kit.mirror.window.count === 0);
    const replica = Buffer.alloc(256 * KIB);
    for (const { type, offset, data: payload } of kit.records)
      if (type === FrameType.Write) payload.copy(replica, offset);
    expect(replica.equals(await kit.run(readBytes(kit.volume, 0, 256 * KIB)))).toBe(true);
  });
});

describe('a trim (promise TRIM)', () => {
  it('goes upstream as a fast zeroing and is recorded as a discard', async () => {
    const { volume, upstream, records, run } = await volumeKit();
    await run(writeBytes(volume, 0, data(1, 64 * KIB)));
    await run(trimRange(volume, 0, 64 * KIB));
    expect(upstream.seen).toEqual([Command.Write, Command.WriteZeroes]);
    expect(records.at(-1)).toMatchObject({ type: FrameType.Discard, offset: 0, length: 64 * KIB });
    expect((await run(readBytes(volume, 0, 64 * KIB))).equals(Buffer.alloc(64 * KIB))).toBe(true);
  });

  it('is a real trim where fast zeroing is refused, and a discard where upstream then says zero', async () => {
    const { volume, upstream, records, run } = await volumeKit();
    upstream.fail(Command.WriteZeroes, NbdError.Enotsup);
    await run(trimRange(volume, 0, 64 * KIB));
    expect(upstream.seen).toEqual([Command.WriteZeroes, Command.Trim, Command.BlockStatus]);
    expect(records.at(-1)?.type).toBe(FrameType.Discard);
  });

  it('marks what upstream cannot vouch for, and copies what it holds', async () => {
    const { volume, tracker, ended, records, platform, run } = await volumeKit({
      abilities: { fastZero: false, contexts: [] },
    });
    await run(trimRange(volume, 64 * KIB, 64 * KIB));
    await platform.clock.runUntil(() => ended.length > 0);
    expect(records.map(({ type }) => type)).toEqual([FrameType.SpanBegin, FrameType.Discard, FrameType.SpanEnd]);
    expect(records[1]?.flags).toBe(FrameFlag.Copied);
    expect(tracker.anyDirty()).toBe(false);
  });

  it('leaves the range dirty when it fails', async () => {
    const { volume, upstream, tracker, mirror, run } = await volumeKit({ abilities: { fastZero: false } });
    mirror.linkDown();
    upstream.fail(Command.Trim, NbdError.Eio);
    expect(await run(errorOf(trimRange(volume, 0, 64 * KIB)))).toBe(NbdError.Eio);
    expect(tracker.anyDirty()).toBe(true);
  });

  it('is answered as upstream answers it', async () => {
    const { upstream, volume, run } = await volumeKit({ abilities: { fastZero: false } });
    upstream.fail(Command.Trim, NbdError.Enospc);
    expect(await run(errorOf(trimRange(volume, 0, 64 * KIB)))).toBe(NbdError.Enospc);
  });

  it('is done when upstream has done it, and read again when upstream cannot say what is there', async () => {
    const { upstream, volume, tracker, mirror, run } = await volumeKit({ abilities: { fastZero: false } });
    mirror.linkDown();
    upstream.fail(Command.BlockStatus, NbdError.Einval);
    expect(await run(errorOf(trimRange(volume, 128 * KIB, 64 * KIB)))).toBe(0);
    expect(tracker.nextDirty(0, 0)).toMatchObject({ offset: 128 * KIB, length: 64 * KIB });
  });
});

describe('a zeroing', () => {
  it('carries no payload, and says whether space may be given back', async () => {
    const { volume, records, run } = await volumeKit();
    await run(zeroRange(volume, 0, 8 * 1024 * KIB));
    await run(zeroRange(volume, 0, 64 * KIB, 1 << 1));
    expect(records.map(({ type, length, data: payload }) => [type, length, payload.length])).toEqual([
      [FrameType.Discard, 8 * 1024 * KIB, 0],
      [FrameType.Zero, 64 * KIB, 0],
    ]);
  });
});

describe('a fast zeroing', () => {
  const FAST = CommandFlag.FastZero;

  it('is offered where upstream has it, and is recorded like any other', async () => {
    const { volume, upstream, records, run } = await volumeKit();
    expect(volume.abilities.fastZero).toBe(true);
    await run(zeroRange(volume, 0, 64 * KIB, FAST));
    expect(upstream.seen).toEqual([Command.WriteZeroes]);
    expect(records.map(({ type }) => type)).toEqual([FrameType.Discard]);
    expect((await volumeKit({ abilities: { fastZero: false } })).volume.abilities.fastZero).toBe(false);
  });

  it('that upstream refuses is refused, its range is read again (FAILWR), and upstream is not asked a second time', async () => {
    const { volume, upstream, tracker, mirror, run } = await volumeKit();
    mirror.linkDown();
    upstream.fail(Command.WriteZeroes, NbdError.Enotsup);
    expect(await run(errorOf(zeroRange(volume, 0, 64 * KIB, FAST)))).toBe(NbdError.Enotsup);
    expect(tracker.nextDirty(0, 0)).toMatchObject({ offset: 0, length: 64 * KIB });
    expect(await run(errorOf(zeroRange(volume, 128 * KIB, 64 * KIB, FAST)))).toBe(NbdError.Enotsup);
    expect(tracker.nextDirty(0, 64 * KIB)).toBeNull();
    expect(upstream.seen).toEqual([Command.WriteZeroes]);
    upstream.heal();
    await run(zeroRange(volume, 128 * KIB, 64 * KIB));
    expect(upstream.seen).toHaveLength(2);
  });
});

describe('a fault in mirroring (promise FAIL-OPEN)', () => {
  it('stops mirroring and leaves guest writes running and marked', async () => {
    const { volume, mirror, tracker, failures, run } = await volumeKit();
    mirror.window.push = () => {
      throw new Error('a bug');
    };
    await run(writeBytes(volume, 0, data(1)));
    await run(writeBytes(volume, 1024 * KIB, data(2)));
    expect(failures).toHaveLength(1);
    expect(mirror.state).toBe('stopped');
    expect(tracker.nextDirty(0, 0)?.offset).toBe(0);
    expect(tracker.nextDirty(0, 64 * KIB)?.offset).toBe(1024 * KIB);
    expect((await run(readBytes(volume, 1024 * KIB, 4 * KIB))).equals(data(2))).toBe(true);
  });

  it('answers a flush, and stops mirroring, where its marker cannot be made', async () => {
    const { volume, mirror, failures, run } = await volumeKit();
    await run(writeBytes(volume, 0, data(1)));
    mirror.window.push = () => {
      throw new Error('a bug');
    };
    expect(await run(errorOf(flushDevice(volume)))).toBe(0);
    expect(failures).toHaveLength(1);
    expect(mirror.state).toBe('stopped');
    expect(await run(errorOf(flushDevice(volume)))).toBe(0);
  });

  it.each(['begin', 'activate', 'end'] as const)(
    'answers writes, and disowns its marks, where their bookkeeping breaks (%s)',
    async (step) => {
      const { volume, mirror, tracker, failures, platform, run } = await volumeKit();
      tracker[step] = () => {
        throw new Error('an extent with a write in flight is hot');
      };
      expect(await run(errorOf(writeBytes(volume, 0, data(1))))).toBe(0);
      expect(await run(errorOf(writeBytes(volume, 0, data(2))))).toBe(0);
      expect(failures).toHaveLength(1);
      expect(mirror.state).toBe('stopped');
      await platform.clock.settle();
      expect(await inspectState(platform.files, '/state')).toMatchObject({ found: 'untrusted' });
    },
  );

  it('lets writes pass unmarked only when the state says, durably, that it is not to be trusted', async () => {
    const kit = await volumeKit();
    kit.platform.files.inject({ operation: 'write', path: '/state/hot.log', times: Infinity, fault: 'io-error' });
    await kit.run(writeBytes(kit.volume, 0, data(1)));
    expect(kit.mirror.state).toBe('stopped');
    expect((await kit.run(readBytes(kit.volume, 0, 4 * KIB))).equals(data(1))).toBe(true);
    const files = kit.platform.files.crash({ seed: 1, fate: 'lose' });
    const { Tracker } = await import('@rephub/bitmap');
    const again = await kit.run(
      Tracker.open(
        { ...kit.platform, files },
        {
          directory: '/state',
          group: 'vm1',
          volumes: [{ index: 0, name: 'disk0', sizeBytes: DISK_BYTES }],
          hooks: { wantsFlush: () => undefined, failed: () => undefined },
        },
      ),
    );
    expect(again.found).toBe('untrusted');
  });
});

describe('a flush (promise FLUSH)', () => {
  it('that upstream answers with an error gives the guest that error and proves nothing', async () => {
    const { volume, upstream, tracker, mirror, run } = await volumeKit();
    await run(writeBytes(volume, 0, data(1)));
    mirror.acknowledged(1, 1);
    upstream.fail(Command.Flush, NbdError.Eio);
    expect(await run(errorOf(flushDevice(volume)))).toBe(NbdError.Eio);
    await run(tracker.coolIdle());
    expect(tracker.hasMarks()).toBe(true);
    upstream.heal();
    await run(flushDevice(volume));
    await run(tracker.coolIdle());
    expect(tracker.hasMarks()).toBe(false);
  });

  it('fails once after upstream was lost with unflushed writes, and what they touched is copied again', async () => {
    const { volume, tracker, mirror, run } = await volumeKit();
    await run(writeBytes(volume, 0, data(1)));
    mirror.linkDown();
    volume.unflushedLost(false);
    expect(tracker.anyDirty()).toBe(true);
    expect(await run(errorOf(flushDevice(volume)))).toBe(NbdError.Eio);
    expect(await run(errorOf(flushDevice(volume)))).toBe(0);
  });
});

describe('an upstream that is lost and returns (promise REPLAY)', () => {
  it('costs nothing but time: no flush fails, nothing is copied again', async () => {
    const { volume, upstream, tracker, run, lose } = await volumeKit();
    await run(writeBytes(volume, 0, data(1)));
    lose();
    expect(await run(errorOf(flushDevice(volume)))).toBe(0);
    expect(upstream.seen).toEqual([Command.Write, Command.Write, Command.Flush]);
    expect(tracker.anyDirty()).toBe(false);
  });

  it('and refuses an acknowledged write: its range is copied again, and the next flush fails, once', async () => {
    const { volume, upstream, tracker, mirror, run, lose } = await volumeKit();
    await run(writeBytes(volume, 128 * KIB, data(1)));
    mirror.linkDown();
    upstream.fail(Command.Write, NbdError.Enospc, 1);
    lose();
    expect(await run(errorOf(flushDevice(volume)))).toBe(NbdError.Eio);
    expect(tracker.nextDirty(0, 0)).toEqual({ offset: 128 * KIB, length: 64 * KIB });
    expect(await run(errorOf(flushDevice(volume)))).toBe(0);
  });

  it('without a replay buffer: the next flush fails, and what a crash would resync is copied again', async () => {
    const { volume, tracker, mirror, run, lose } = await volumeKit({ upstream: { replayBytes: 0 } });
    await run(writeBytes(volume, 0, data(1)));
    mirror.linkDown();
    lose();
    expect(await run(errorOf(flushDevice(volume)))).toBe(NbdError.Eio);
    expect(tracker.anyDirty()).toBe(true);
  });
});

describe('the replay buffer (promises REPLAY, BOUND)', () => {
  it('is flushed when it fills up, and that flush proves what it covers as any other does', async () => {
    const { volume, upstream, tracker, mirror, run } = await volumeKit({ upstream: { replayBytes: 64 * KIB } });
    for (let at = 0; at < 64; at++) await run(writeBytes(volume, at * 4 * KIB, data(at + 1)));
    expect(upstream.seen.filter((command) => command === Command.Flush).length).toBeGreaterThan(3);
    mirror.acknowledged(mirror.lastNumber, mirror.lastNumber);
    await run(flushDevice(volume));
    await run(tracker.coolIdle());
    expect(tracker.hasMarks()).toBe(false);
  });
});

describe('a read with FUA', () => {
  it('acts as PREFLUSH: what was written lands before it is read', async () => {
    const { volume, upstream, run } = await volumeKit();
    await run(writeBytes(volume, 0, data(1)));
    await run(
      new Promise((resolve) => {
        const request = new BlockRequest({ completed: resolve });
        request.command = Command.Read;
        request.flags = CommandFlag.Fua;
        request.length = 4 * KIB;
        volume.submit(request);
      }),
    );
    expect(upstream.seen).toEqual([Command.Write, Command.Flush, Command.Read]);
  });

  it('neither fails for a write that was lost nor takes that error from the next flush (promise FLUSH)', async () => {
    const { volume, run, lose } = await volumeKit({ upstream: { replayBytes: 0 } });
    await run(writeBytes(volume, 0, data(1)));
    lose();
    const error = await run(
      new Promise((resolve) => {
        const request = new BlockRequest({ completed: (done) => resolve(done.error) });
        request.command = Command.Read;
        request.flags = CommandFlag.Fua;
        request.length = 4 * KIB;
        volume.submit(request);
      }),
    );
    expect(error).toBe(0);
    expect(await run(errorOf(flushDevice(volume)))).toBe(NbdError.Eio);
    expect(await run(errorOf(flushDevice(volume)))).toBe(0);
  });
});

describe('a range that upstream cannot read', () => {
  it('is recorded as unreadable, and only that range (promise FAILWR)', async () => {
    const kit = await volumeKit();
    await kit.run(writeBytes(kit.volume, 0, data(5, 64 * KIB)));
    kit.upstream.fail(Command.Read, NbdError.Eio, Infinity, 8 * KIB, 12 * KIB);
    kit.mirror.unknown(0, 0, 64 * KIB);
    await kit.platform.clock.runUntil(() => kit.ended.length > 0);
    kit.mirror.hurry();
    expect(kit.unreadable).toEqual([[8 * KIB, 4 * KIB]]);
    const copied = kit.records.filter(({ flags, type }) => flags === FrameFlag.Copied && type === FrameType.Write);
    expect(copied.reduce((sum, { length }) => sum + length, 0)).toBe(60 * KIB);
    expect(kit.records.filter(({ type }) => type === FrameType.Unreadable)).toHaveLength(1);
  });
});

describe('a span’s copies', () => {
  it('are many at once where they are small, and 2 MiB at once where they are large', async () => {
    for (const [dirty, atOnce] of [
      [Array.from({ length: 30 }, (_, index) => [index * 128 * KIB, 4 * KIB] as const), 16],
      [[[0, 6 * 1024 * KIB] as const], 2],
    ] as const) {
      const kit = await volumeKit();
      kit.upstream.holding = true;
      for (const [offset, length] of dirty) kit.tracker.setDirty(0, offset, length);
      kit.mirror.unknown(0, 0, 4 * KIB);
      await kit.platform.clock.advance(50);
      // And one question, of how much of it all is holes.
      expect(kit.upstream.seen).toHaveLength(atOnce + 1);
      kit.upstream.letGo();
      kit.upstream.holding = false;
      await kit.platform.clock.runUntil(() => kit.ended.length > 0);
      expect(kit.tracker.anyDirty()).toBe(false);
    }
  });
});
