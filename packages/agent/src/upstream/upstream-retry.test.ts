import { Command, CommandFlag, flushDevice, NbdError, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { LinkFault, StorageFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { POLICY, upstreamKit } from '../testing/upstream-kit.js';
import { type RetryPolicy } from './retry-policy.js';

const SIZE = 1024 * 1024;
const data = (fill = 1): Buffer => Buffer.alloc(4096, fill);

async function setUp(policy: RetryPolicy = POLICY) {
  const clock = new SimClock();
  const device = new ScriptedDevice(SIZE);
  const openedAt: number[] = [];
  const refusals = { left: 0 };
  const kit = await upstreamKit(
    clock,
    () => {
      openedAt.push(clock.monotonicMs());
      if (refusals.left-- > 0) return Promise.reject(new LinkFault('connect-refused', 'nobody there'));
      return Promise.resolve(device);
    },
    {},
    policy,
  );
  return { ...kit, device, openedAt, refusals };
}

describe('an operation that upstream answers with an error (promise GUEST)', () => {
  it.each([
    ['read', Command.Read],
    ['write', Command.Write],
    ['zeroing', Command.WriteZeroes],
    ['trim', Command.Trim],
    ['flush', Command.Flush],
  ])(
    'a %s that fails once is repeated on a new connection, and its submitter sees only time',
    async (_name, command) => {
      const { upstream, device, outcome, clock, openedAt } = await setUp();
      await outcome(writeBytes(upstream, 0, data(7)));
      device.fail(command, NbdError.Eio, 1);
      const work = {
        [Command.Read]: () => readBytes(upstream, 0, 4096),
        [Command.Write]: () => writeBytes(upstream, 0, data(8)),
        [Command.WriteZeroes]: () => zeroRange(upstream, 0, 4096),
        [Command.Trim]: () => trimRange(upstream, 0, 4096),
        [Command.Flush]: () => flushDevice(upstream),
      }[command];
      expect(await outcome(work())).toBe(0);
      expect(clock.monotonicMs()).toBe(2000);
      // What a flush may have dropped is written again at once.
      expect(openedAt).toEqual([0, command === Command.Flush ? 0 : 2000]);
      expect(device.closes).toBe(1);
    },
  );

  it('a connection that cannot be closed without an error is let go all the same, and what it had not stored is played', async () => {
    const { upstream, device, outcome, told } = await setUp();
    upstream.unflushedBefore();
    await outcome(writeBytes(upstream, 0, data(7)));
    device.fail(Command.Read, NbdError.Eio, 1);
    // As close(2) does where a file system finds out only then.
    device.close = () => {
      device.closes++;
      return Promise.reject(new StorageFault('io-error', 'cannot close the file'));
    };
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
    expect(upstream.status.up).toBe(true);
    expect(device.seen.filter((command) => command === Command.Write)).toHaveLength(2);
    // It has said as much as a flush that fails does: of what is not at hand, too.
    expect(told.unflushedDropped).toBe(1);
    await upstream.close();
  });

  it('a zeroing with FUA that is refused because it would be slow is no flush that has failed', async () => {
    const { upstream, device, outcome, openedAt, told } = await setUp();
    upstream.unflushedBefore();
    device.fail(Command.WriteZeroes, NbdError.Enotsup);
    const flags = CommandFlag.FastZero | CommandFlag.Fua;
    expect(await outcome(zeroRange(upstream, 0, 4096, flags))).toBe(NbdError.Enotsup);
    expect(told.unflushedLost).toBe(0);
    expect(upstream.mayHaveDropped).toBe(false);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(openedAt).toEqual([0]);
  });

  it('ESHUTDOWN to who asks once is not repeated, and is no word about the range: upstream is away then', async () => {
    const { upstream, device, outcome, refusals, openedAt, clock } = await setUp();
    device.fail(Command.Read, NbdError.Eshutdown, 1);
    refusals.left = 2;
    let wasUp: boolean | null = null;
    const reading = outcome(
      readBytes(upstream.once, 0, 4096).catch((thrown: unknown) => {
        wasUp = upstream.status.up;
        throw thrown;
      }),
    );
    expect(await reading).toBe(NbdError.Eshutdown);
    expect(wasUp).toBe(false);
    await clock.advance(60_000);
    expect(openedAt.length).toBe(4);
    expect(upstream.status).toMatchObject({ up: true, reconnects: 1 });
    expect(await outcome(readBytes(upstream.once, 0, 4096))).toBe(0);
  });

  it('ESHUTDOWN is repeated too', async () => {
    const { upstream, device, outcome } = await setUp();
    device.fail(Command.Read, NbdError.Eshutdown, 1);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
  });

  it.each([
    ['ENOSPC', NbdError.Enospc],
    ['EPERM', NbdError.Eperm],
    ['EINVAL', NbdError.Einval],
    ['ENOTSUP', NbdError.Enotsup],
    ['EOVERFLOW', NbdError.Eoverflow],
  ])('%s passes at once', async (_name, error) => {
    const { upstream, device, outcome, clock, openedAt } = await setUp();
    device.fail(Command.Write, error, 1);
    expect(await outcome(writeBytes(upstream, 0, data()))).toBe(error);
    expect(clock.monotonicMs()).toBe(0);
    expect(openedAt).toHaveLength(1);
  });

  it('zero retries: everything passes at once', async () => {
    const { upstream, device, outcome, clock } = await setUp({ ...POLICY, retries: 0 });
    device.fail(Command.Read, NbdError.Eio, 1);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(NbdError.Eio);
    expect(clock.monotonicMs()).toBe(0);
  });

  it('exponential times: 2, 4, 8, 16, 32 s between the tries, then the error', async () => {
    const { upstream, device, outcome, openedAt, clock } = await setUp();
    device.fail(Command.Read, NbdError.Eio);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(NbdError.Eio);
    expect(openedAt).toEqual([0, 2000, 6000, 14_000, 30_000, 62_000]);
    expect(clock.monotonicMs()).toBe(62_000);
  });

  it('linear times, below a second, for ever', async () => {
    const { upstream, device, outcome, openedAt } = await setUp({
      retries: Infinity,
      delayMs: 250,
      exponential: false,
    });
    device.fail(Command.Read, NbdError.Eio, 10);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
    expect(openedAt).toHaveLength(11);
    expect(openedAt.at(-1)).toBe(2500);
  });

  it('reopen fails: looked for until it is there, then repeated', async () => {
    const { upstream, device, outcome, refusals, clock } = await setUp();
    device.fail(Command.Read, NbdError.Eio, 1);
    refusals.left = 10;
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
    expect(clock.monotonicMs()).toBeGreaterThan(2000);
    expect(clock.monotonicMs()).toBeLessThan(2600);
  });

  it('others go on while one waits to be repeated, and are held only while connections are reopened', async () => {
    const { upstream, device, outcome, clock } = await setUp();
    device.fail(Command.Read, NbdError.Eio, 1, 0, 4096);
    const failing = outcome(readBytes(upstream, 0, 4096));
    expect(await outcome(readBytes(upstream, 8192, 4096))).toBe(0);
    expect(clock.monotonicMs()).toBeLessThanOrEqual(2000);
    expect(await failing).toBe(0);
  });

  it('a background read has its error at once: nobody waits a minute for each bad sector', async () => {
    const { upstream, device, outcome, clock } = await setUp();
    device.fail(Command.Read, NbdError.Eio, 1);
    expect(await outcome(readBytes(upstream.once, 0, 4096))).toBe(NbdError.Eio);
    expect(clock.monotonicMs()).toBe(0);
  });
});

describe('a flush or FUA that is answered with an error (promise FLUSH)', () => {
  it('is repeated only after everything unflushed was written again', async () => {
    const { upstream, device, outcome } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(zeroRange(upstream, 8192, 4096));
    device.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(device.seen).toEqual([
      ...[Command.Write, Command.WriteZeroes, Command.Flush],
      ...[Command.Write, Command.WriteZeroes, Command.Flush],
    ]);
  });

  it('FUA: the write, and what went before it, is written again, then flushed', async () => {
    const { upstream, device, outcome } = await setUp();
    await outcome(writeBytes(upstream, 0, data(1)));
    device.fail(Command.Write, NbdError.Eio, 1);
    expect(await outcome(writeBytes(upstream, 8192, data(2), true))).toBe(0);
    expect(device.seen).toEqual([Command.Write, Command.Write, Command.Write, Command.Write, Command.Flush]);
  });

  it('whose error went to the guest is not believed when it is repeated by the guest', async () => {
    const { upstream, device, outcome } = await setUp({ ...POLICY, retries: 0 });
    await outcome(writeBytes(upstream, 0, data(1)));
    device.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(upstream))).toBe(NbdError.Eio);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(device.seen).toEqual([Command.Write, Command.Flush, Command.Write, Command.Flush]);
  });

  it('is sent after a write that failed too: it may have landed in part', async () => {
    const { upstream, device, outcome } = await setUp({ ...POLICY, retries: 0 });
    await outcome(flushDevice(upstream));
    device.seen.length = 0;
    device.fail(Command.Write, NbdError.Eio, 1);
    expect(await outcome(writeBytes(upstream, 0, data(1)))).toBe(NbdError.Eio);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(device.seen).toEqual([Command.Write, Command.Flush]);
  });

  it('passes to the guest when not all that is unflushed is at hand', async () => {
    const clock = new SimClock();
    const device = new ScriptedDevice(SIZE);
    const { upstream, outcome, told } = await upstreamKit(clock, () => Promise.resolve(device), { replayBytes: 0 });
    await outcome(writeBytes(upstream, 0, data(1)));
    device.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(upstream))).toBe(NbdError.Eio);
    expect(told.unflushedLost).toBe(1);
  });

  it('passes to the guest when a process before may have left writes unflushed, until one has landed', async () => {
    const clock = new SimClock();
    const device = new ScriptedDevice(SIZE);
    const { upstream, outcome, told } = await upstreamKit(clock, () => Promise.resolve(device));
    upstream.unflushedBefore();
    device.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(upstream))).toBe(NbdError.Eio);
    expect(told.unflushedLost).toBe(1);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    device.fail(Command.Flush, NbdError.Eio, 1);
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(told.unflushedLost).toBe(1);
  });
});

describe('FUA where upstream has only flush', () => {
  it('is a write and then a flush', async () => {
    const clock = new SimClock();
    const device = new ScriptedDevice(SIZE, { fua: false });
    const { upstream, outcome } = await upstreamKit(clock, () => Promise.resolve(device));
    expect(upstream.abilities.fua).toBe(true);
    expect(await outcome(writeBytes(upstream, 0, data(1), true))).toBe(0);
    expect(device.seen).toEqual([Command.Write, Command.Flush]);
  });
});
