import { ConfigFault, type Fault, LinkFault, ProtocolFault, silentLogger } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { GuestLatency } from '../guest/guest-latency.js';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { OPTIONS, POLICY } from '../testing/upstream-kit.js';
import { checkUpstream, openPatiently } from './open-upstream.js';
import { type UpstreamParts } from './upstream-parts.js';

const REFUSED = new LinkFault('connect-refused', 'nobody there');

/** Opening fails with these faults, one after the other, then succeeds. */
function setUp(faults: Fault[], retries = 5) {
  const clock = new SimClock();
  const triedAt: number[] = [];
  const parts: UpstreamParts = {
    name: 'disk0',
    clock,
    log: silentLogger,
    policy: { ...POLICY, retries },
    options: OPTIONS,
    memory: { hold: () => undefined, release: () => undefined },
    latency: new GuestLatency().addVolume('disk0'),
    askSize: null,
    open: () => {
      triedAt.push(clock.monotonicMs());
      const fault = faults.shift();
      return fault === undefined ? Promise.resolve(new ScriptedDevice(1 << 20)) : Promise.reject(fault);
    },
    hooks: {
      wantsFlush: () => undefined,
      contentUnknown: () => undefined,
      playedAgain: () => undefined,
      doubtChanged: () => undefined,
      contentDropped: () => undefined,
      writeLost: () => undefined,
      unflushedLost: () => undefined,
      grown: () => undefined,
    },
  };
  return { clock, parts, triedAt };
}

describe('an upstream at the start', () => {
  it('open fails at first: tried again as the policy says', async () => {
    const { clock, parts, triedAt } = setUp([REFUSED, REFUSED, REFUSED]);
    const opening = openPatiently(parts, false);
    await clock.advance(60_000);
    expect((await opening).status.up).toBe(true);
    expect(triedAt).toEqual([0, 2000, 6000, 14_000]);
  });

  it('open fails for good: the last fault is thrown once the retries are used up', async () => {
    const { clock, parts, triedAt } = setUp([REFUSED, REFUSED, REFUSED, REFUSED], 2);
    const opening = openPatiently(parts, false);
    const thrown = expect(opening).rejects.toBe(REFUSED);
    await clock.advance(60_000);
    await thrown;
    expect(triedAt).toEqual([0, 2000, 6000]);
  });

  it.each<[string, Fault]>([
    ['what the user asked for cannot be', new ConfigFault('export-unknown', 'no such export')],
    ['somebody else answers', new ProtocolFault('bad-magic', 'not an NBD server')],
  ])('%s: said at once', async (_what, fault) => {
    const { parts, triedAt } = setUp([fault]);
    await expect(openPatiently(parts, false)).rejects.toBe(fault);
    expect(triedAt).toEqual([0]);
  });

  it('awaited: tried for ever, and found within 50 ms at first, within a second later', async () => {
    const faults: Fault[] = Array.from({ length: 200 }, () => REFUSED);
    faults[3] = new ProtocolFault('bad-magic', 'not an NBD server');
    const { clock, parts, triedAt } = setUp(faults, 0);
    const opening = openPatiently(parts, true);
    await clock.advance(600_000);
    expect((await opening).status.up).toBe(true);
    const waits = triedAt.slice(1).map((at, index) => at - (triedAt[index] ?? 0));
    expect(waits[0]).toBe(50);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1000);
  });

  it('awaited: a file that is not there, or has no bytes yet, is as good as a server that is away', async () => {
    const missing = new ConfigFault('upstream-missing', 'there is no file');
    const { clock, parts, triedAt } = setUp([missing, new ConfigFault('upstream-empty', 'no bytes')]);
    const told: string[] = [];
    const opening = openPatiently(parts, true, {
      trying: () => told.push('trying'),
      failed: (reason) => told.push(reason),
    });
    await clock.advance(1000);
    expect((await opening).status.up).toBe(true);
    expect(triedAt).toEqual([0, 50, 100]);
    expect(told).toEqual(['trying', 'there is no file', 'trying', 'no bytes', 'trying']);
  });

  it.each([
    ['empty', 0, 'upstream-empty'],
    ['not a multiple of 512', 1000, 'upstream-odd-size'],
  ])('%s: refused, by name', (_what, sizeBytes, code) => {
    expect(() => checkUpstream(new ScriptedDevice(sizeBytes), 'nbd://h/x')).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining('nbd://h/x') as string }),
    );
  });
});
