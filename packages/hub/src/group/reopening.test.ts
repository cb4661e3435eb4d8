import { CorruptionFault, StorageFault } from '@rephub/platform';
import { SimClock, type SimFault, type SimOperation, type SimPlatform, simPlatform } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { noCatalogue } from '../catalogue/catalogue.js';
import { openGroupStore } from '../storage/index.js';
import { ScriptedAgent } from '../storage/testing/scripted-agent.js';
import { DIRECTORY, pattern, startedStore } from '../storage/testing/store-kit.js';
import { Group } from './group.js';
import { Reopening } from './reopening.js';

describe('a group that could not be opened', () => {
  it('is tried again less and less often, and for ever', async () => {
    const clock = new SimClock();
    const reopening = new Reopening(clock);
    const triedAtS: number[] = [];
    const fail = (): void => {
      triedAtS.push(clock.monotonicMs() / 1000);
      expect(reopening.failed(new StorageFault('disk-full', 'full'), fail)).not.toBeNull();
    };
    fail();
    await clock.advance(3_600_000);
    expect(triedAtS.slice(0, 9)).toEqual([0, 5, 15, 35, 75, 155, 315, 635, 1235]);
    expect(triedAtS.slice(8).map((at, index) => at - 1235 - index * 600)).toEqual(triedAtS.slice(8).map(() => 0));
    const tried = triedAtS.length;
    reopening.cancel();
    await clock.advance(3_600_000);
    expect(triedAtS).toHaveLength(tried);
  });

  it('whose journal is damaged is opened anew at once, later each further time, and at once after an hour', async () => {
    const clock = new SimClock();
    const reopening = new Reopening(clock);
    reopening.opened();
    const waitsS: number[] = [];
    const damaged = async (openMs: number): Promise<void> => {
      await clock.advance(openMs);
      const beganMs = clock.monotonicMs();
      let isOver = false;
      const waitMs = reopening.damaged(() => (isOver = true));
      if (waitMs > 0) await clock.runUntil(() => isOver);
      expect([waitMs, isOver]).toEqual([clock.monotonicMs() - beganMs, waitMs > 0]);
      waitsS.push(waitMs / 1000);
      reopening.opened();
    };
    for (let time = 0; time < 10; time += 1) await damaged(60_000);
    expect(waitsS).toEqual([0, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
    // What could not be opened then counts with it.
    expect(reopening.failed(new StorageFault('disk-full', 'full'), () => undefined)).toBe(600_000);
    reopening.opened();
    await damaged(3_599_000);
    await damaged(3_600_000);
    await damaged(1000);
    expect(waitsS.slice(10)).toEqual([600, 0, 5]);
  });

  it.each([
    ['a failed sync', new StorageFault('sync-failed', 'lost')],
    ['a device that fails', new StorageFault('io-error', 'the device failed')],
    ['damage', new CorruptionFault('base-missing', 'gone')],
    ['a bug', new TypeError('undefined')],
  ])('is not tried again after %s', async (_what, reason) => {
    const clock = new SimClock();
    let tries = 0;
    expect(new Reopening(clock).failed(reason, () => (tries += 1))).toBeNull();
    await clock.advance(3_600_000);
    expect(tries).toBe(0);
  });
});

interface Rig {
  readonly host: SimPlatform;
  readonly group: Group;
  readonly told: string[];
  readonly agent: ScriptedAgent;
}

/** A group with some history, whose opening is struck so. */
async function struck(operation: SimOperation, path: string | RegExp, fault: SimFault): Promise<Rig> {
  const host = simPlatform(3);
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', 64 * 1024);
  agent.write(0, 0, pattern(4096, 1));
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let over = false;
    void work.finally(() => (over = true)).catch(() => undefined);
    await host.clock.runUntil(() => over, 60_000);
    return await work;
  };
  const store = await run(startedStore(host, agent));
  await run(store.close({ drain: false }));
  host.files.inject({ operation, path, fault, times: 2 });
  const told: string[] = [];
  const group = new Group(
    'vm1',
    DIRECTORY,
    {
      platform: host,
      identity: { hubId: '00000000-0000-4000-8000-00000000000f', epoch: 1 },
      software: 'test',
      times: { heartbeatMs: 1000, timeoutMs: 5000 },
      storage: { retentionMs: 0, indexBytes: 1024 * 1024 },
      openStore: openGroupStore,
      catalogue: noCatalogue(),
      toldSoFar: () => () => true,
    },
    (_level, event, message) => told.push(`${event}: ${message}`),
  );
  await run(group.recover());
  return { host, group, told, agent };
}

describe('a group whose disk is not what it was at the start', () => {
  it('opens by itself once that has passed, and says so', async () => {
    const { host, group, told, agent } = await struck('open', /\.seg$/, 'no-permission');
    expect(group.store).toBeNull();
    expect(group.status()).toMatchObject({
      state: 'degraded',
      reason: expect.stringContaining('no-permission') as string,
    });
    expect(told).toEqual([expect.stringMatching(/^group-failed: .*it is tried again by itself$/)]);
    await host.clock.advance(6_000);
    expect([group.store, told.length]).toEqual([null, 1]);
    await host.clock.advance(10_000);
    expect(group.store?.state).toMatchObject({ lastNumber: agent.lastNumber, corrupted: null });
    expect(group.trouble).toBeNull();
    expect(told.at(-1)).toMatch(/^group-recovered: /);
    await group.close(false);
  });

  it('stays closed when the disk has failed a sync: what is read then may be on no disk', async () => {
    const { host, group, told } = await struck('sync', /\.seg$/, 'io-error');
    expect(told).toEqual([
      expect.stringMatching(/^group-failed: .*a restart of the hub is needed once that is mended$/),
    ]);
    await host.clock.advance(3_600_000);
    expect(group.store).toBeNull();
    await group.close(false);
  });

  it('is not tried again once it is closed', async () => {
    const { host, group, told } = await struck('open', /\.seg$/, 'no-permission');
    await group.close(false);
    await host.clock.advance(3_600_000);
    expect([group.store, told.length]).toEqual([null, 1]);
  });
});
