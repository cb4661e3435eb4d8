import {
  type BlockRequest,
  Command,
  CommandFlag,
  flushDevice,
  NbdError,
  readBytes,
  trimRange,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { SeededRandomness, SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { BLOCK_BYTES, ForgetfulDisk, type ForgetfulOptions } from '../testing/forgetful-disk.js';
import { outcomeOf, POLICY, upstreamKit } from '../testing/upstream-kit.js';
import { type RetryPolicy } from './retry-policy.js';
import { type UpstreamOptions } from './upstream-parts.js';

const KIB = 1024;
const SIZE = 256 * KIB;
const data = (fill: number, length = 4 * KIB): Buffer => Buffer.alloc(length, fill);
const fails = (request: BlockRequest, offset: number): boolean =>
  request.command === Command.Write && request.offset === offset;

async function setUp(
  disk: Partial<ForgetfulOptions> = {},
  options: Partial<UpstreamOptions> = {},
  policy: RetryPolicy = POLICY,
) {
  const clock = new SimClock();
  const upstreamDisk = new ForgetfulDisk(clock, { sizeBytes: SIZE, delayMs: () => 1, ...disk });
  const kit = await upstreamKit(clock, upstreamDisk.open, options, policy);
  const fill = async (writes: number): Promise<void> => {
    for (let at = 0; at < writes; at++) await kit.outcome(writeBytes(kit.upstream, at * 4 * KIB, data(at + 1)));
  };
  const isFilled = (writes: number, content: Buffer): boolean =>
    Array.from({ length: writes }, (_, at) => at).every((at) =>
      content.subarray(at * 4 * KIB, (at + 1) * 4 * KIB).equals(data(at + 1)),
    );
  return { ...kit, disk: upstreamDisk, fill, isFilled };
}

describe('a replay of which a part fails (promise REPLAY)', () => {
  it('goes on with the rest, and repeats only what was refused once a flush has made the rest stable', async () => {
    const { upstream, disk, outcome, clock, fill, isFilled } = await setUp();
    await fill(40);
    const before = disk.done.length;
    let refusals = 2;
    disk.verdict = (request) => (fails(request, 20 * KIB) && refusals-- > 0 ? NbdError.Eio : 0);
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    const after = disk.done.slice(before);
    expect(after.filter(({ command }) => command === Command.Write)).toHaveLength(40);
    expect(after.filter(({ command }) => command === Command.Flush)).toHaveLength(1);
    expect(isFilled(40, disk.content())).toBe(true);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(isFilled(40, disk.stable)).toBe(true);
  });

  it('tells of all that was played, also by the tries before', async () => {
    const { upstream, disk, outcome, clock, told } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(trimRange(upstream, 8 * KIB, 4 * KIB));
    await outcome(writeBytes(upstream, 16 * KIB, data(2)));
    let refusals = 1;
    disk.verdict = (request) => (fails(request, 16 * KIB) && refusals-- > 0 ? NbdError.Eio : 0);
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    expect(told.playedAgain.map(([offset]) => offset)).toEqual([0, 8 * KIB, 16 * KIB]);
    expect(told.unknown).toEqual([[8 * KIB, 4 * KIB]]);
    expect(told.heldSlices).toBe(1);
  });

  it('plays what lies over one that was refused once more: the older one must not end on top of it', async () => {
    const { upstream, disk, outcome, clock } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1, 8 * KIB)));
    await outcome(writeBytes(upstream, 4 * KIB, data(2)));
    await outcome(writeBytes(upstream, 32 * KIB, data(3)));
    let refusals = 1;
    disk.verdict = (request) => (fails(request, 0) && refusals-- > 0 ? NbdError.Eio : 0);
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    const expected = Buffer.concat([data(1), data(2)]);
    expect(
      disk
        .content()
        .subarray(0, 8 * KIB)
        .equals(expected),
    ).toBe(true);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(disk.stable.subarray(0, 8 * KIB).equals(expected)).toBe(true);
  });

  it('holds back what overlaps one that was refused, of unknown fate though it is', async () => {
    const { upstream, disk, outcome } = await setUp({ delayMs: () => 5 });
    await outcome(writeBytes(upstream, 0, data(1, 8 * KIB)));
    const unknown = outcomeOf(writeBytes(upstream, 4 * KIB, data(2)));
    let refusals = 1;
    disk.verdict = (request) => (fails(request, 0) && refusals-- > 0 ? NbdError.Eio : 0);
    const before = disk.done.length;
    disk.die();
    expect(await outcome(unknown)).toBe(0);
    const written = disk.done.slice(before).filter(({ command }) => command === Command.Write);
    expect(written.map(({ offset }) => offset)).toEqual([0, 4 * KIB]);
    expect(
      disk
        .content()
        .subarray(0, 8 * KIB)
        .equals(Buffer.concat([data(1), data(2)])),
    ).toBe(true);
  });

  it('with a write that is to be stable and fails: it is written without, and flushed before anything passes', async () => {
    const { upstream, disk, outcome } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(writeBytes(upstream, 8 * KIB, data(2), true));
    const isFua = (flags: number): boolean => (flags & CommandFlag.Fua) !== 0;
    disk.verdict = ({ flags }) => (isFua(flags) ? NbdError.Eio : 0);
    // An upstream that loses even what it called stable: nobody else would write it again.
    disk.stable.fill(0);
    disk.die();
    expect(await outcome(readBytes(upstream, 0, KIB))).toBe(0);
    expect(disk.stable.subarray(0, 12 * KIB).equals(Buffer.concat([data(1), data(0), data(2)]))).toBe(true);
    expect(upstream.mayHaveDropped).toBe(false);
  });

  it('and of which a flush fails: all of it is played again', async () => {
    const { upstream, disk, outcome, clock, fill, isFilled } = await setUp();
    await fill(20);
    let [refusals, failures] = [1, 1];
    disk.verdict = (request) => {
      if (fails(request, 20 * KIB) && refusals-- > 0) return NbdError.Eio;
      return request.command === Command.Flush && failures-- > 0 ? NbdError.Eio : 0;
    };
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    expect(failures).toBeLessThanOrEqual(0);
    expect(isFilled(20, disk.content())).toBe(true);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(isFilled(20, disk.stable)).toBe(true);
  });

  it.each([
    ['fails', false],
    ['takes the connection with it', true],
  ])('ends where each flush %s, for it is tried without', async (_what, isLost) => {
    const { upstream, disk, outcome, clock, fill, isFilled, told } = await setUp();
    await fill(20);
    let refusals = 1;
    disk.verdict = (request) => {
      if (request.command === Command.Flush && isLost) disk.die();
      if (request.command === Command.Flush) return NbdError.Eio;
      return fails(request, 20 * KIB) && refusals-- > 0 ? NbdError.Eio : 0;
    };
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    expect(isFilled(20, disk.content())).toBe(true);
    disk.verdict = () => 0;
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(isFilled(20, disk.stable)).toBe(true);
    expect(told.lostWrites).toEqual([]);
  });

  it('for good gives up that part alone, after its retries', async () => {
    const { upstream, disk, clock, fill, told, isFilled } = await setUp();
    await fill(40);
    const before = disk.done.length;
    disk.verdict = (request) => (fails(request, 39 * 4 * KIB) ? NbdError.Eio : 0);
    disk.die();
    await clock.runUntil(() => upstream.status.up);
    expect(told.lostWrites).toEqual([[39 * 4 * KIB, 4 * KIB]]);
    expect(isFilled(39, disk.content())).toBe(true);
    expect(disk.done.slice(before).filter(({ command }) => command === Command.Write)).toHaveLength(39);
  });

  it('does not go on and on where everything is refused', async () => {
    const { upstream, disk, clock, fill } = await setUp({ sizeBytes: 4096 * KIB }, { replayBytes: 8192 * KIB });
    await fill(1000);
    let refused = 0;
    disk.verdict = ({ command }) => {
      if (command === Command.Write) refused++;
      return NbdError.Eio;
    };
    disk.die();
    await clock.runUntil(() => upstream.status.state === 'playing');
    await clock.runUntil(() => upstream.status.state !== 'playing');
    expect(refused).toBeLessThan(100);
    await upstream.close();
  });

  it('as each connection is lost before it is over gets further with each all the same', async () => {
    const { upstream, disk, outcome, clock, fill, isFilled } = await setUp(
      { sizeBytes: 4096 * KIB },
      { replayBytes: 8192 * KIB },
    );
    await fill(1000);
    let requests = 0;
    disk.verdict = () => {
      // Far fewer than there are to be played.
      if (++requests % 100 === 0) disk.die();
      return 0;
    };
    disk.die();
    await clock.runUntil(() => upstream.status.up, 60_000);
    expect(isFilled(1000, disk.content())).toBe(true);
    disk.verdict = () => 0;
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(isFilled(1000, disk.stable)).toBe(true);
  });
});

describe('random work over an upstream that fails every twelfth request, dies, and has hundreds of writes to get again', () => {
  const seeds = Array.from({ length: 24 }, (_, at) => at + 1);
  it.each(seeds)('seed %i: it ends, reads see what was written, and what was flushed is stable', async (seed) => {
    const random = new SeededRandomness(seed);
    const placed = seed % 3 === 0;
    const sizeBytes = placed ? 17 * 1024 * KIB : 2048 * KIB;
    const { upstream, disk, clock, outcome, told } = await setUp(
      {
        ...{ sizeBytes, cachePerConnection: placed, abilities: seed % 4 === 0 ? { fua: false } : {} },
        ...{ delayMs: () => random.below(8), halfDone: () => random.chance() },
      },
      { connections: 3, multiConn: placed ? 'emulate' : 'auto', replayBytes: 64 * 1024 * KIB },
      { retries: Infinity, delayMs: 50, exponential: true },
    );
    let failing = true;
    disk.verdict = () => (failing && random.chance(0.08) ? NbdError.Eio : 0);
    const trouble = (): void => {
      if (!failing) return;
      if (random.chance()) disk.connections[random.below(Math.max(1, disk.connections.length))]?.lose();
      else disk.die();
      disk.refuse = random.below(3);
      clock.after(seed % 2 === 0 ? 5 + random.below(80) : 100 + random.below(400), trouble);
    };
    clock.after(50, trouble);
    const model = Buffer.alloc(sizeBytes);
    const workers = 6;
    const stripe = Math.floor(sizeBytes / workers / BLOCK_BYTES) * BLOCK_BYTES;
    const work = async (worker: number): Promise<void> => {
      for (let turn = 0; turn < 150; turn++) {
        const length = (1 + random.below(16)) * BLOCK_BYTES;
        const offset = worker * stripe + random.below((stripe - length) / BLOCK_BYTES) * BLOCK_BYTES;
        const fill = random.below(255) + 1;
        const kind = random.below(10);
        if (random.chance(0.02)) await flushDevice(upstream);
        else if (kind < 6) {
          await writeBytes(upstream, offset, data(fill, length), kind === 0);
          model.fill(fill, offset, offset + length);
        } else if (kind === 6) {
          await zeroRange(upstream, offset, length);
          model.fill(0, offset, offset + length);
        } else {
          const seen = await readBytes(upstream, offset, length);
          expect(seen.equals(model.subarray(offset, offset + length)), `seed ${seed}, read at ${offset}`).toBe(true);
        }
      }
    };
    // Ten minutes of virtual time; it takes some seconds.
    expect(
      await within(clock, 600_000, Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)))),
    ).toBe(0);
    failing = false;
    disk.refuse = 0;
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(Buffer.compare(disk.stable, model)).toBe(0);
    expect(told.lostWrites).toEqual([]);
    expect(told.heldSlices).toBe(0);
    await upstream.close();
  });
});

async function within(clock: SimClock, mostMs: number, work: Promise<unknown>): Promise<number> {
  const seen = { isOver: false };
  const over = outcomeOf(work).finally(() => (seen.isOver = true));
  over.catch(() => undefined);
  await clock.runUntil(() => seen.isOver, mostMs);
  return await over;
}
