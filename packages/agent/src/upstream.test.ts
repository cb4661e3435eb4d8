import { Command, DeviceError, NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { type Fault, LinkFault, silentLogger } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ScriptedDevice } from './testing/scripted-device.js';
import { type RetryPolicy, Upstream } from './upstream.js';

const SIZE = 1024 * 1024;
const POLICY: RetryPolicy = { retries: 5, delayMs: 2000, exponential: true };

/** Connections that the test hands out, one after the other; null: cannot be had. */
async function setUp(policy: RetryPolicy, connections: (ScriptedDevice | null)[]) {
  const clock = new SimClock();
  const lost: ((fault: Fault) => void)[] = [];
  const opened: number[] = [];
  let unflushed = 0;
  const upstream = await Upstream.open({
    name: 'disk0',
    clock,
    log: silentLogger,
    policy,
    open: (tell) => {
      opened.push(clock.monotonicMs());
      const next = connections.shift();
      if (next === undefined || next === null) return Promise.reject(new LinkFault('connect-refused', 'nobody there'));
      lost.push(tell);
      return Promise.resolve(next);
    },
    mayHaveLost: () => unflushed++,
  });
  const lose = (): void => lost.at(-1)?.(new LinkFault('connection-lost', 'gone'));
  return { clock, upstream, lose, opened, mayHaveLost: () => unflushed };
}

async function outcome(work: Promise<unknown>): Promise<number> {
  return await work.then(
    () => 0,
    (error: unknown) => (error instanceof DeviceError ? error.nbdError : -1),
  );
}

describe('upstream (promise OUTAGE)', () => {
  it('sends what was in flight again on the next connection, in its order, before what came meanwhile', async () => {
    const first = new ScriptedDevice(SIZE);
    const second = new ScriptedDevice(SIZE);
    const { clock, upstream, lose, mayHaveLost } = await setUp(POLICY, [first, null, second]);
    first.holding = true;
    const work = [1, 2].map((fill) => outcome(writeBytes(upstream, 0, Buffer.alloc(4096, fill))));
    lose();
    work.push(outcome(writeBytes(upstream, 0, Buffer.alloc(4096, 3))));
    await clock.advance(3000);
    expect(await Promise.all(work)).toEqual([0, 0, 0]);
    expect((await readBytes(upstream, 0, 4096)).equals(Buffer.alloc(4096, 3))).toBe(true);
    expect(second.seen.slice(0, 3)).toEqual([Command.Write, Command.Write, Command.Write]);
    expect(mayHaveLost()).toBe(1);
    expect(upstream.status).toMatchObject({ up: true, reconnects: 1 });
  });

  it('waits twice as long from try to try, and fails what waits when the tries are used up', async () => {
    const first = new ScriptedDevice(SIZE);
    const { clock, upstream, lose, opened } = await setUp({ ...POLICY, retries: 3 }, [first]);
    lose();
    const waiting = outcome(readBytes(upstream, 0, 4096));
    await clock.advance(60_000);
    expect(await waiting).toBe(NbdError.Eio);
    expect(opened.slice(1, 6)).toEqual([0, 2000, 6000, 14_000, 30_000]);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(NbdError.Eio);
  });

  it('goes on trying after the tries were used up, and serves again when upstream is back', async () => {
    const { clock, upstream, lose } = await setUp({ retries: 0, delayMs: 100, exponential: false }, [
      new ScriptedDevice(SIZE),
      null,
      null,
      new ScriptedDevice(SIZE),
    ]);
    lose();
    await clock.advance(1000);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
  });

  it.each([
    ['another size', new ScriptedDevice(2 * SIZE), 'instead of'],
    ['read-only', new ScriptedDevice(SIZE, { readOnly: true }), 'read-only'],
  ])('refuses an upstream that comes back with %s', async (_what, changed, complaint) => {
    const { clock, upstream, lose } = await setUp({ ...POLICY, retries: Infinity }, [
      new ScriptedDevice(SIZE),
      changed,
    ]);
    lose();
    const waiting = outcome(writeBytes(upstream, 0, Buffer.alloc(4096)));
    await clock.advance(1000);
    expect(upstream.status.up).toBe(false);
    expect(upstream.status.reason).toContain(complaint);
    expect(changed.seen).toEqual([]);
    await upstream.close();
    expect(await waiting).toBe(NbdError.Eshutdown);
  });

  it('refuses a read-only upstream at the start', async () => {
    await expect(setUp(POLICY, [new ScriptedDevice(SIZE, { readOnly: true })])).rejects.toMatchObject({
      code: 'upstream-read-only',
    });
  });
});
