import { Command, CommandFlag, flushDevice, NbdError, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { SeededRandomness, SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { BLOCK_BYTES, ForgetfulDisk, type ForgetfulOptions } from '../testing/forgetful-disk.js';
import { outcomeOf, POLICY, upstreamKit } from '../testing/upstream-kit.js';
import { type RetryPolicy } from './retry-policy.js';
import { type UpstreamOptions } from './upstream-parts.js';

const KIB = 1024;
const SIZE = 256 * KIB;
const data = (fill: number, length = 4 * KIB): Buffer => Buffer.alloc(length, fill);

async function setUp(
  disk: Partial<ForgetfulOptions> = {},
  options: Partial<UpstreamOptions> = {},
  policy: RetryPolicy = POLICY,
) {
  const clock = new SimClock();
  const upstreamDisk = new ForgetfulDisk(clock, { sizeBytes: SIZE, ...disk });
  const kit = await upstreamKit(clock, upstreamDisk.open, options, policy);
  return { ...kit, disk: upstreamDisk };
}

describe('an upstream that loses its cache (promise REPLAY)', () => {
  it('may have lost what was acknowledged and not flushed as long as it is not played, and else nothing', async () => {
    const { upstream, disk, outcome, clock } = await setUp();
    disk.die();
    expect(upstream.mayHaveLost).toBe(false);
    await clock.settle();
    await outcome(writeBytes(upstream, 0, data(1)));
    expect(upstream.mayHaveLost).toBe(false);
    disk.die();
    expect(upstream.mayHaveLost).toBe(true);
    await clock.settle();
    await outcome(readBytes(upstream, 0, KIB));
    expect(upstream.mayHaveLost).toBe(false);
    await outcome(flushDevice(upstream));
    disk.die();
    expect(upstream.mayHaveLost).toBe(false);
  });

  it('is not believed of a write with FUA once a flush has failed: all is played and flushed before the answer', async () => {
    const { upstream, disk, outcome } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    let failures = 1;
    disk.verdict = ({ command }) => (command === Command.Flush && failures-- > 0 ? NbdError.Enospc : 0);
    expect(await outcome(flushDevice(upstream))).toBe(NbdError.Enospc);
    expect(await outcome(writeBytes(upstream, 4 * KIB, data(2), true))).toBe(0);
    expect(disk.done.at(-1)?.command).toBe(Command.Flush);
    expect(disk.stable.subarray(0, 8 * KIB).equals(Buffer.concat([data(1), data(2)]))).toBe(true);
    expect(upstream.mayHaveDropped).toBe(false);
  });

  it('gets every acknowledged, unflushed write, zeroing and trim again, in order', async () => {
    const { upstream, disk, outcome, clock, told } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(flushDevice(upstream));
    await outcome(writeBytes(upstream, 4 * KIB, data(2)));
    await outcome(writeBytes(upstream, 4 * KIB, data(3)));
    await outcome(zeroRange(upstream, 0, KIB));
    await outcome(trimRange(upstream, 8 * KIB, KIB));
    disk.die();
    await clock.settle();
    const expected = Buffer.concat([Buffer.alloc(KIB), data(1, 3 * KIB), data(3), Buffer.alloc(KIB)]);
    expect(
      disk
        .content()
        .subarray(0, 9 * KIB)
        .equals(expected),
    ).toBe(true);
    // What a trim leaves is not promised: it is read again.
    expect(told.unknown).toEqual([[8 * KIB, KIB]]);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(disk.stable.subarray(0, 9 * KIB).equals(expected)).toBe(true);
    expect(told.heldSlices).toBe(0);
  });

  it('gets a trim again as a zeroing, as far as that is no more than might be written: one that does nothing leaves to chance what is stable', async () => {
    const { upstream, disk, outcome, clock } = await setUp({}, { replayBytes: 16 * KIB });
    await outcome(trimRange(upstream, 0, 12 * KIB));
    await outcome(trimRange(upstream, 32 * KIB, 8 * KIB));
    await outcome(trimRange(upstream, 64 * KIB, 4 * KIB));
    const before = disk.done.length;
    disk.connections[0]?.lose();
    await clock.settle();
    const played = disk.done.slice(before).map(({ command, offset }) => [command, offset]);
    expect(played).toEqual([
      [Command.WriteZeroes, 0],
      [Command.Trim, 32 * KIB],
      [Command.WriteZeroes, 64 * KIB],
    ]);
  });

  it('is never shown an older content again: whoever ends during the replay leaves no disk that went back', async () => {
    const { upstream, disk, outcome } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1, 8 * KIB)));
    await outcome(writeBytes(upstream, 0, data(2)));
    await outcome(writeBytes(upstream, 2 * KIB, data(3)));
    const before = disk.done.length;
    disk.connections[0]?.lose();
    expect(await outcome(flushDevice(upstream))).toBe(0);
    const played = disk.done.slice(before).map(({ command, offset }) => [command, offset]);
    expect(played).toEqual([
      [Command.Write, 6 * KIB],
      [Command.Write, 0],
      [Command.Write, 2 * KIB],
      [Command.Flush, 0],
    ]);
    const expected = Buffer.concat([data(2, 2 * KIB), data(3), data(1, 2 * KIB)]);
    expect(disk.stable.subarray(0, 8 * KIB).equals(expected)).toBe(true);
  });

  it('gets it before any read or write passes on any connection', async () => {
    const { upstream, disk, outcome, clock } = await setUp({ delayMs: () => 10 }, { connections: 4 });
    const writes = Array.from({ length: 40 }, (_, at) => writeBytes(upstream, at * 4 * KIB, data(at + 1)));
    await outcome(Promise.all(writes));
    await clock.runUntil(() => upstream.status.connections > 1, 1000);
    const before = disk.done.length;
    disk.die();
    const reading = readBytes(upstream, 0, 4 * KIB);
    const writing = writeBytes(upstream, 200 * KIB, data(99));
    await outcome(Promise.all([reading, writing]));
    const after = disk.done.slice(before).map(({ command, offset }) => [command, offset]);
    const played = after.slice(0, 40);
    expect(played.map(([, offset]) => offset)).toEqual(Array.from({ length: 40 }, (_, at) => at * 4 * KIB));
    expect(after.slice(40)).toEqual([
      [Command.Read, 0],
      [Command.Write, 200 * KIB],
    ]);
    expect((await reading).equals(data(1))).toBe(true);
  });

  it('holds all connections when one is lost, and answers what settles meanwhile', async () => {
    const { upstream, disk, outcome, clock } = await setUp({ delayMs: () => 10 }, { connections: 2 });
    await outcome(Promise.all(Array.from({ length: 40 }, (_, at) => writeBytes(upstream, at * KIB, data(1, KIB)))));
    await clock.runUntil(() => upstream.status.connections === 2, 1000);
    const reads = Array.from({ length: 32 }, (_, at) => outcomeOf(readBytes(upstream, at * KIB, KIB)));
    disk.connections[1]?.lose();
    expect(upstream.status.state).toBe('settling');
    await clock.runUntil(() => upstream.status.up);
    expect(await outcome(Promise.all(reads))).toBe(0);
    expect((await Promise.all(reads)).every((error) => error === 0)).toBe(true);
  });

  it('gets what it may have half done again, whole', async () => {
    let half = 0;
    const { upstream, disk, outcome } = await setUp({ delayMs: () => 10, halfDone: () => half++ % 2 === 0 });
    const writing = writeBytes(upstream, 0, data(5));
    disk.die();
    expect(await outcome(writing)).toBe(0);
    expect(
      disk
        .content()
        .subarray(0, 4 * KIB)
        .equals(data(5)),
    ).toBe(true);
  });

  it('that fails one of two flushes under way: the other is not believed before all was written again', async () => {
    const { upstream, disk, clock } = await setUp({ delayMs: () => 10 }, {}, { ...POLICY, retries: 0 });
    const write = outcomeOf(writeBytes(upstream, 0, data(1)));
    await clock.advance(20);
    expect(await write).toBe(0);
    let failing = 1;
    disk.verdict = ({ command }) => (command === Command.Flush && failing-- > 0 ? NbdError.Eio : 0);
    const flushes = [outcomeOf(flushDevice(upstream)), outcomeOf(flushDevice(upstream))];
    await clock.advance(1000);
    expect(await Promise.all(flushes)).toEqual([NbdError.Eio, 0]);
    expect(disk.stable.subarray(0, 4 * KIB).equals(data(1))).toBe(true);
  });

  it.each([
    ['of unknown fate', NbdError.Eio, false],
    ['that was answered', NbdError.Enospc, true],
  ])(
    'that fails to make one stable among them, %s, gets again what it may have dropped with it',
    async (_what, error, isAnswered) => {
      const { upstream, disk, outcome, clock } = await setUp({ delayMs: () => 1 });
      await outcome(writeBytes(upstream, 0, data(1)));
      const stable = outcomeOf(writeBytes(upstream, 8 * KIB, data(2), true));
      if (isAnswered) await outcome(stable);
      let failures = 1;
      disk.verdict = ({ flags }) => ((flags & CommandFlag.Fua) !== 0 && failures-- > 0 ? error : 0);
      // The first one is in its cache again when the second one fails.
      disk.options.delayMs = (request) => ((request.flags & CommandFlag.Fua) !== 0 ? 3 : 1);
      disk.die();
      const reading = readBytes(upstream, 0, 4 * KIB);
      expect(await outcome(reading)).toBe(0);
      expect((await reading).equals(data(1))).toBe(true);
      await clock.advance(60_000);
      expect(await outcome(flushDevice(upstream))).toBe(0);
      expect(disk.stable.subarray(0, 4 * KIB).equals(data(1))).toBe(true);
      if (!isAnswered) expect(await stable).toBe(0);
    },
  );

  it('that refuses one of them: its range is told, and the flush must fail', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(writeBytes(upstream, 8 * KIB, data(2)));
    disk.verdict = ({ command, offset }) => (command === Command.Write && offset === 0 ? NbdError.Enospc : 0);
    disk.die();
    await clock.settle();
    expect(told.lostWrites).toEqual([[0, 4 * KIB]]);
    expect(
      disk
        .content()
        .subarray(8 * KIB, 12 * KIB)
        .equals(data(2)),
    ).toBe(true);
  });

  it('that refuses one is not given what was there before it, when all is played once more', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1, 8 * KIB)));
    await outcome(writeBytes(upstream, 0, data(2), true));
    disk.verdict = ({ command, offset }) => (command === Command.Write && offset === 0 ? NbdError.Enospc : 0);
    disk.connections.at(-1)?.lose();
    await clock.advance(10_000);
    expect(told.lostWrites).toEqual([[0, 4 * KIB]]);
    expect(told.unknown).toEqual([[0, 4 * KIB]]);
    disk.verdict = () => 0;
    disk.connections.at(-1)?.lose();
    await clock.settle();
    expect(told.unknown).toHaveLength(2);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    const expected = Buffer.concat([data(2), data(1)]);
    expect(disk.stable.subarray(0, 8 * KIB).equals(expected)).toBe(true);
    disk.connections.at(-1)?.lose();
    await clock.settle();
    expect(told.unknown).toHaveLength(2);
    expect(told.heldSlices).toBe(0);
  });

  it('that refuses one with EIO is reopened and gets all of it again', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    let refusals = 2;
    disk.verdict = ({ command }) => (command === Command.Write && refusals-- > 0 ? NbdError.Eio : 0);
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    expect(told.lostWrites).toEqual([]);
    expect(
      disk
        .content()
        .subarray(0, 4 * KIB)
        .equals(data(1)),
    ).toBe(true);
  });

  it('that refuses one and takes at once what waited for that, gets all of it again all the same', async () => {
    const { upstream, disk, outcome } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1, 8 * KIB)));
    disk.options.delayMs = () => 5;
    const unknown = outcomeOf(writeBytes(upstream, 4 * KIB, data(2)));
    let refusals = 1;
    disk.verdict = ({ command }) => (command === Command.Write && refusals-- > 0 ? NbdError.Eio : 0);
    disk.options.delayMs = ({ length }) => (length > 4 * KIB ? 3 : 0);
    disk.die();
    expect(await outcome(unknown)).toBe(0);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(disk.stable.subarray(0, 8 * KIB).equals(Buffer.concat([data(1), data(2)]))).toBe(true);
  });

  it('that dies again while it gets them gets them once more', async () => {
    const { upstream, disk, outcome, clock } = await setUp({ delayMs: () => 5 });
    for (let at = 0; at < 40; at++) await outcome(writeBytes(upstream, at * 4 * KIB, data(at + 1)));
    disk.die();
    await clock.runUntil(() => upstream.status.state === 'playing');
    await clock.advance(7);
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    for (let at = 0; at < 40; at++) {
      expect(
        disk
          .content()
          .subarray(at * 4 * KIB, (at + 1) * 4 * KIB)
          .equals(data(at + 1)),
      ).toBe(true);
    }
  });

  it('a write that had failed is read again after what was before it was written again', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp({}, {}, { ...POLICY, retries: 0 });
    await outcome(writeBytes(upstream, 0, data(1)));
    disk.verdict = ({ command }) => (command === Command.Write ? NbdError.Eio : 0);
    expect(await outcome(writeBytes(upstream, 0, data(2)))).toBe(NbdError.Eio);
    disk.verdict = () => 0;
    disk.die();
    await clock.settle();
    expect(told.unknown).toEqual([[0, 4 * KIB]]);
  });

  it('and what no entry has, in part written by one that failed, is told as dropped after a flush that failed, not after a mere loss', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp({}, {}, { ...POLICY, retries: 0 });
    await outcome(writeBytes(upstream, 0, data(1)));
    disk.verdict = ({ command }) => (command === Command.Write ? NbdError.Eio : 0);
    expect(await outcome(writeBytes(upstream, 0, data(2)))).toBe(NbdError.Eio);
    disk.verdict = () => 0;
    disk.connections[0]?.lose();
    await clock.settle();
    expect(told.unknown).toEqual([[0, 4 * KIB]]);
    expect(told.dropped).toEqual([]);
    disk.verdict = ({ command }) => (command === Command.Flush ? NbdError.Eio : 0);
    expect(await outcome(flushDevice(upstream))).toBe(NbdError.Eio);
    disk.verdict = () => 0;
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(told.dropped).toEqual([[0, 4 * KIB]]);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(told.dropped).toHaveLength(1);
  });

  it('and is told so after a flush that went with its connection: nobody knows what came of it', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp({ delayMs: () => 10 }, {}, { ...POLICY, retries: 1 });
    disk.verdict = ({ command }) => (command === Command.Write ? NbdError.Enospc : 0);
    expect(await outcome(writeBytes(upstream, 0, data(2)))).toBe(NbdError.Enospc);
    disk.verdict = () => 0;
    const flush = outcomeOf(flushDevice(upstream));
    await clock.advance(5);
    disk.connections[0]?.lose();
    expect(await outcome(flush)).toBe(0);
    expect(await flush).toBe(0);
    expect(told.dropped).toEqual([[0, 4 * KIB]]);
  });

  it('that fails a write while a flush is under way is flushed by the next one: a part of that write may be in its cache', async () => {
    const { upstream, disk, clock, outcome } = await setUp({ delayMs: () => 10 }, {}, { ...POLICY, retries: 0 });
    expect(await outcome(writeBytes(upstream, 0, data(1)))).toBe(0);
    disk.verdict = ({ command }) => (command === Command.Write ? NbdError.Enospc : 0);
    const write = outcomeOf(writeBytes(upstream, 0, data(2)));
    await clock.advance(5);
    const flush = outcomeOf(flushDevice(upstream));
    await clock.advance(20);
    expect(await Promise.all([write, flush])).toEqual([NbdError.Enospc, 0]);
    expect(upstream.status.unflushedBytes).toBeGreaterThan(0);
    const before = disk.done.length;
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(disk.done.slice(before).map(({ command }) => command)).toEqual([Command.Flush]);
    expect(upstream.status.unflushedBytes).toBe(0);
  });

  it('without a buffer for it is told of, and so is nobody when nothing is unflushed', async () => {
    const { upstream, disk, outcome, told, clock } = await setUp({}, { replayBytes: 0 });
    await outcome(writeBytes(upstream, 0, data(1)));
    disk.die();
    await clock.settle();
    expect(told.unflushedLost).toBe(1);
    expect(told.unflushedDropped).toBe(0);
  });

  it('without a buffer for it, one of two flushes under way that fails: the other is not believed before upstream was opened anew', async () => {
    const { upstream, disk, told, clock } = await setUp({ delayMs: () => 10 }, { replayBytes: 0 });
    const write = outcomeOf(writeBytes(upstream, 0, data(1)));
    await clock.advance(20);
    expect(await write).toBe(0);
    let failing = 1;
    disk.verdict = ({ command }) => (command === Command.Flush && failing-- > 0 ? NbdError.Eio : 0);
    const flushes = [outcomeOf(flushDevice(upstream)), outcomeOf(flushDevice(upstream))];
    await clock.advance(1000);
    expect(await Promise.all(flushes)).toEqual([NbdError.Eio, 0]);
    expect(told.unflushedDropped).toBe(1);
    expect(disk.opened).toBe(2);
  });
});

describe('the replay buffer is bounded', () => {
  it('half full it asks for a flush; full, writes wait for it', async () => {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: SIZE, delayMs: () => 10 });
    const flushing: { run: () => void } = { run: () => undefined };
    const { upstream, told, outcome } = await upstreamKit(clock, disk.open, { replayBytes: 32 * KIB }, POLICY, () => {
      flushing.run();
    });
    flushing.run = () => void outcomeOf(flushDevice(upstream));
    const writes = Array.from({ length: 60 }, (_, at) => writeBytes(upstream, at * 4 * KIB, data(at + 1)));
    let most = 0;
    const watch = (): void => {
      most = Math.max(most, upstream.status.unflushedBytes);
      clock.after(1, watch);
    };
    watch();
    expect(await outcome(Promise.all(writes))).toBe(0);
    expect(told.flushesWanted).toBeGreaterThan(3);
    expect(most).toBeLessThanOrEqual(32 * KIB);
  });

  it('a quick flush is asked for early, and takes a thirtieth of the time at most; before one was seen, none is', async () => {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: 32 * 1024 * KIB, delayMs: () => 2 });
    const flushing: { run: () => void } = { run: () => undefined };
    const { upstream, told, outcome } = await upstreamKit(
      clock,
      disk.open,
      { replayBytes: 64 * 1024 * KIB },
      POLICY,
      () => {
        flushing.run();
      },
    );
    flushing.run = () => void outcomeOf(flushDevice(upstream));
    const write = async (mebibytes: number): Promise<void> => {
      for (let at = 0; at < mebibytes; at++) {
        expect(await outcome(writeBytes(upstream, (at % 32) * 1024 * KIB, data(at, 1024 * KIB)))).toBe(0);
      }
    };
    await write(10);
    expect(told.flushesWanted).toBe(0);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    // 16 ms: the flush of 2 ms is not to be followed by another for 60.
    await write(8);
    expect(told.flushesWanted).toBe(0);
    await write(24);
    expect(told.flushesWanted).toBe(1);
    expect(upstream.status.unflushedBytes).toBeLessThan(12 * 1024 * KIB);
  });

  it('gives up what it keeps, and says so, when no flush can make room', async () => {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: SIZE });
    const flushing: { run: () => void } = { run: () => undefined };
    const policy = { ...POLICY, retries: 0 };
    const { upstream, told, outcome } = await upstreamKit(clock, disk.open, { replayBytes: 16 * KIB }, policy, () => {
      flushing.run();
    });
    flushing.run = () => queueMicrotask(() => void outcomeOf(flushDevice(upstream)));
    disk.verdict = ({ command }) => (command === Command.Flush ? NbdError.Eio : 0);
    for (let at = 0; at < 20; at++) expect(await outcome(writeBytes(upstream, at * 4 * KIB, data(1)))).toBe(0);
    expect(told.unflushedLost).toBeGreaterThan(0);
    expect(upstream.status.unflushedBytes).toBeLessThanOrEqual(16 * KIB);
  });
});

describe('random work over an upstream that loses, fails and forgets', () => {
  const seeds = Array.from({ length: 48 }, (_, at) => at + 1);
  it.each(seeds)('seed %i: reads see what was written, and what was flushed is stable', async (seed) => {
    const random = new SeededRandomness(seed);
    const placed = seed % 3 === 0;
    const sizeBytes = placed ? 17 * 1024 * KIB : SIZE;
    const { upstream, disk, clock, outcome, told } = await setUp(
      {
        sizeBytes,
        cachePerConnection: placed,
        abilities: seed % 4 === 0 ? { fua: false } : {},
        delayMs: () => random.below(8),
        halfDone: () => random.chance(),
      },
      { connections: 3, multiConn: placed ? 'emulate' : 'auto', replayBytes: 64 * 1024 * KIB },
      { retries: Infinity, delayMs: 50, exponential: true },
    );
    let failing = true;
    disk.verdict = () => (failing && random.chance(0.02) ? NbdError.Eio : 0);
    const trouble = (): void => {
      if (!failing) return;
      const victim = disk.connections[random.below(Math.max(1, disk.connections.length))];
      if (random.chance()) victim?.lose();
      else disk.die();
      disk.refuse = random.below(3);
      // Where it has hardly come back it meets the next one while it plays.
      clock.after(seed % 2 === 0 ? 5 + random.below(80) : 100 + random.below(400), trouble);
    };
    clock.after(50, trouble);

    const model = Buffer.alloc(sizeBytes);
    const flushed = Buffer.alloc(sizeBytes);
    const workers = 6;
    const stripe = Math.floor(sizeBytes / workers / BLOCK_BYTES) * BLOCK_BYTES;
    /** Each works in a stripe of its own, as the range lock would have it. */
    const work = async (worker: number): Promise<void> => {
      for (let turn = 0; turn < 60; turn++) {
        const length = (1 + random.below(16)) * BLOCK_BYTES;
        const offset = worker * stripe + random.below((stripe - length) / BLOCK_BYTES) * BLOCK_BYTES;
        const fill = random.below(255) + 1;
        const kind = random.below(10);
        if (kind < 5) {
          const fua = kind === 0;
          await writeBytes(upstream, offset, data(fill, length), fua);
          model.fill(fill, offset, offset + length);
          if (fua) flushed.fill(fill, offset, offset + length);
        } else if (kind === 5) {
          await zeroRange(upstream, offset, length);
          model.fill(0, offset, offset + length);
        } else if (kind === 6) {
          const own = Buffer.from(model.subarray(worker * stripe, (worker + 1) * stripe));
          await flushDevice(upstream);
          own.copy(flushed, worker * stripe);
        } else {
          const seen = await readBytes(upstream, offset, length);
          expect(seen.equals(model.subarray(offset, offset + length)), `seed ${seed}, read at ${offset}`).toBe(true);
        }
      }
    };
    expect(await outcome(Promise.all(Array.from({ length: workers }, (_, worker) => work(worker))))).toBe(0);
    failing = false;
    disk.refuse = 0;
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(Buffer.compare(disk.stable.subarray(0, workers * stripe), model.subarray(0, workers * stripe))).toBe(0);
    expect(told.lostWrites).toEqual([]);
    expect(told.heldSlices).toBe(0);
    await upstream.close();
  });
});
