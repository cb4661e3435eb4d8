import { Command, NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { type Fault, LinkFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { outcomeOf, POLICY, upstreamKit } from '../testing/upstream-kit.js';
import { type UpstreamConnection } from './lane.js';
import { type RetryPolicy } from './retry-policy.js';
import { type UpstreamOptions } from './upstream-parts.js';

const SIZE = 1024 * 1024;

/** Connections that the test hands out, one after the other; null, or none left: cannot be had. */
async function setUp(
  policy: RetryPolicy,
  connections: (UpstreamConnection | null)[],
  options: Partial<UpstreamOptions> = {},
) {
  const clock = new SimClock();
  const lost: ((fault: Fault) => void)[] = [];
  const opened: number[] = [];
  const kit = await upstreamKit(
    clock,
    (tell) => {
      opened.push(clock.monotonicMs());
      const next = connections.shift();
      if (next === undefined || next === null) return Promise.reject(new LinkFault('connect-refused', 'nobody there'));
      lost.push(tell);
      return Promise.resolve(next);
    },
    options,
    policy,
  );
  const lose = (): void => lost.at(-1)?.(new LinkFault('connection-lost', 'gone'));
  return { ...kit, lose, opened, connections };
}

describe('an upstream that is lost (promise OUTAGE)', () => {
  it('gets what was in flight again on the next connection, in its order, before what came meanwhile', async () => {
    const [first, second] = [new ScriptedDevice(SIZE), new ScriptedDevice(SIZE)];
    const { clock, upstream, lose } = await setUp(POLICY, [first, null, second]);
    first.holding = true;
    const work = [1, 2].map((fill) => outcomeOf(writeBytes(upstream, 0, Buffer.alloc(4096, fill))));
    lose();
    work.push(outcomeOf(writeBytes(upstream, 0, Buffer.alloc(4096, 3))));
    await clock.advance(3000);
    expect(await Promise.all(work)).toEqual([0, 0, 0]);
    expect((await readBytes(upstream, 0, 4096)).equals(Buffer.alloc(4096, 3))).toBe(true);
    expect(second.seen.slice(0, 3)).toEqual([Command.Write, Command.Write, Command.Write]);
    expect(upstream.status).toMatchObject({ up: true, reconnects: 1, state: 'up' });
  });

  it('is noticed within 100 ms of its return for as long as the first two delays', async () => {
    const connections: (ScriptedDevice | null)[] = [new ScriptedDevice(SIZE)];
    const { clock, upstream, lose } = await setUp(POLICY, connections);
    lose();
    await clock.advance(5_900);
    expect(upstream.status.up).toBe(false);
    connections.push(new ScriptedDevice(SIZE));
    await clock.advance(100);
    expect(upstream.status.up).toBe(true);
  });

  it('lets a request wait as long as the retry filter would: about a minute by default, then EIO', async () => {
    const { clock, upstream, lose, outcome } = await setUp(POLICY, [new ScriptedDevice(SIZE)]);
    lose();
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(NbdError.Eio);
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(62_000);
    expect(clock.monotonicMs()).toBeLessThan(67_100);
    await upstream.close();
  });

  it('is looked for on after requests have failed, and serves again when it is back', async () => {
    const { clock, upstream, lose, connections, outcome } = await setUp(
      { retries: 1, delayMs: 100, exponential: false },
      [new ScriptedDevice(SIZE)],
    );
    lose();
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(NbdError.Eio);
    connections.push(new ScriptedDevice(SIZE));
    await clock.advance(10_000);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
  });

  it('with zero retries fails what was in flight at once', async () => {
    const first = new ScriptedDevice(SIZE);
    const { upstream, lose, clock } = await setUp({ ...POLICY, retries: 0 }, [first, new ScriptedDevice(SIZE)]);
    first.holding = true;
    const reading = outcomeOf(readBytes(upstream, 0, 4096));
    lose();
    expect(await reading).toBe(NbdError.Eio);
    await clock.advance(100);
    expect(await outcomeOf(readBytes(upstream, 0, 4096))).toBe(0);
  });

  it.each([
    ['smaller', new ScriptedDevice(SIZE / 2), 'instead of'],
    ['read-only after failure', new ScriptedDevice(SIZE, { readOnly: true }), 'read-only'],
    ['no flush any more', new ScriptedDevice(SIZE, { flush: false }), 'without flush'],
    ['block status gone', new ScriptedDevice(SIZE, { contexts: [] }), 'base:allocation'],
    ['another export', Object.assign(new ScriptedDevice(SIZE), { exportName: 'other' }), 'other'],
  ])('%s: refused, loudly, and never written to', async (_what, changed, complaint) => {
    const { clock, upstream, lose } = await setUp({ ...POLICY, retries: Infinity }, [
      new ScriptedDevice(SIZE),
      changed,
    ]);
    lose();
    const waiting = outcomeOf(writeBytes(upstream, 0, Buffer.alloc(4096)));
    await clock.settle();
    expect(upstream.status).toMatchObject({ up: false, state: 'refused' });
    expect(upstream.status.reason).toContain(complaint);
    expect(changed.seen).toEqual([]);
    expect(changed.closes).toBe(1);
    await upstream.close();
    expect(await waiting).toBe(NbdError.Eshutdown);
  });

  it('is refused at the start when it is read-only', async () => {
    await expect(setUp(POLICY, [new ScriptedDevice(SIZE, { readOnly: true })])).rejects.toMatchObject({
      code: 'upstream-read-only',
    });
  });
});

describe('--retry-readonly', () => {
  it('yes: after the first failure reads go on and writes get EPERM', async () => {
    const device = new ScriptedDevice(SIZE);
    const { upstream, outcome } = await setUp(POLICY, [device, device], { retryReadonly: 'yes' });
    device.fail(Command.Read, NbdError.Eio, 1);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
    expect(await outcome(writeBytes(upstream, 0, Buffer.alloc(4096)))).toBe(NbdError.Eperm);
    expect(upstream.status).toMatchObject({ up: true, state: 'read-only' });
  });

  it('on-write-failure: a read that failed changes nothing, a write that failed does', async () => {
    const device = new ScriptedDevice(SIZE);
    const { upstream, outcome } = await setUp(POLICY, [device, device, device], { retryReadonly: 'on-write-failure' });
    device.fail(Command.Read, NbdError.Eio, 1);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
    expect(await outcome(writeBytes(upstream, 0, Buffer.alloc(4096)))).toBe(0);
    device.fail(Command.Write, NbdError.Eio, 1);
    await outcome(writeBytes(upstream, 0, Buffer.alloc(4096)));
    expect(await outcome(writeBytes(upstream, 0, Buffer.alloc(4096)))).toBe(NbdError.Eperm);
  });

  it('yes: an upstream that comes back read-only is used so, and what it cannot get again is told', async () => {
    const [first, second] = [new ScriptedDevice(SIZE), new ScriptedDevice(SIZE, { readOnly: true })];
    const { upstream, outcome, lose, told, clock } = await setUp(POLICY, [first, second], { retryReadonly: 'yes' });
    expect(await outcome(writeBytes(upstream, 4096, Buffer.alloc(4096, 1)))).toBe(0);
    lose();
    await clock.settle();
    expect(upstream.status).toMatchObject({ up: true, state: 'read-only' });
    expect(told.lostWrites).toEqual([[4096, 4096]]);
    expect(second.seen).toEqual([]);
    expect(await outcome(readBytes(upstream, 0, 4096))).toBe(0);
  });
});
