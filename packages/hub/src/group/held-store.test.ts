/** A group whose journal is found damaged while the hub runs: when it is opened anew, and when that is not right. */
import { SimFiles, type SimPlatform, simPlatform } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import { noCatalogue } from '../catalogue/catalogue.js';
import { type GroupStoreOptions, openGroupStore } from '../storage/index.js';
import { ScriptedAgent } from '../storage/testing/scripted-agent.js';
import { DIRECTORY, expectView, pattern, rotRecord, startedStore } from '../storage/testing/store-kit.js';
import type { Hello } from '@rephub/protocol';
import type { SeatedSession } from './agent-seat.js';
import { Group } from './group.js';

const SIZE = 64 * 1024;
const AN_HOUR_MS = 3_600_000;

describe('a group whose journal is damaged', () => {
  let host: SimPlatform;
  let agent: ScriptedAgent;
  let group: Group;
  let told: string[];
  let opened: GroupStoreOptions[];
  /** The damaged record; another one lies behind it. */
  let record: number;

  async function run<T>(work: Promise<T>): Promise<T> {
    let over = false;
    void work.finally(() => (over = true)).catch(() => undefined);
    await host.clock.runUntil(() => over, 60_000);
    return await work;
  }

  beforeEach(async () => {
    const files = new SimFiles();
    host = simPlatform(1, { files });
    agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.write(0, 0, pattern(10_000, 1));
    agent.spanEnd();
    const kept = { retentionMs: AN_HOUR_MS, indexBytes: 1024 * 1024 };
    const before = await run(startedStore(host, agent, kept));
    await run(before.close({ drain: true }));
    told = [];
    opened = [];
    group = new Group(
      'vm1',
      DIRECTORY,
      {
        platform: host,
        identity: { hubId: '00000000-0000-4000-8000-00000000000f', epoch: 1 },
        software: 'test',
        times: { heartbeatMs: 1000, timeoutMs: 5000 },
        storage: kept,
        openStore: (platform, options) => {
          opened.push(options);
          return openGroupStore(platform, options);
        },
        catalogue: noCatalogue(),
        toldSoFar: () => () => true,
      },
      (_level, event, message) => told.push(`${event}: ${message}`),
    );
    await run(group.recover());
    agent.write(0, 20_000, pattern(4000, 2));
    agent.write(0, 30_000, pattern(4000, 3));
    record = agent.lastNumber;
    agent.write(0, 40_000, pattern(4000, 4));
    await send();
  });

  async function send(): Promise<void> {
    const { store } = group;
    if (store === null) throw new Error('the group is closed');
    agent.sendTo(store);
    await run(store.settled());
  }

  /** As a full disk does, or a stop. */
  async function fold(): Promise<void> {
    await expect(run(group.store?.drain() ?? Promise.resolve())).rejects.toMatchObject({ code: 'apply-failed' });
  }

  const toldOf = (event: string): string[] => told.filter((line) => line.startsWith(`${event}: `));

  it('is opened anew, without what lies behind the damage, once nobody can read that any more', async () => {
    const store = group.store;
    const view = await run(store?.openView() ?? expect.unreachable());
    const expired: string[] = [];
    view.onExpired((why) => expired.push(why));
    await rotRecord(host.files, agent, record);
    await fold();
    await host.clock.advance(1000);
    expect(group.store).not.toBe(store);
    expect(group.trouble).toBeNull();
    expect(group.store?.state).toMatchObject({ lastNumber: record - 1, consistentNumber: record - 1 });
    expect(group.store?.state.corrupted).toContain(`record ${record}`);
    await expectView(await run(group.store?.openView() ?? expect.unreachable()), agent, 'what lies before the damage');
    expect(expired).toEqual([expect.stringContaining('group vm1 is closed, and opened anew')]);
    expect([toldOf('group-reopening').length, toldOf('group-recovered').length]).toEqual([1, 2]);
    await run(group.close(false));
  });

  it('again within an hour is served up to the damage, without its agent and without folding, until the pause is over (LASTGOOD)', async () => {
    await rotRecord(host.files, agent, record);
    await fold();
    await host.clock.advance(1000);
    // What was lost comes again, and more; then that rots, too.
    agent.write(0, 50_000, pattern(4000, 5));
    await send();
    await rotRecord(host.files, agent, agent.lastNumber);
    await fold();
    await host.clock.advance(1000);
    const { store } = group;
    expect(group.status()).toMatchObject({
      state: 'degraded',
      reason: expect.stringMatching(
        /^journal-damaged: group vm1 is closed, and opened anew, for readers alone for 5 s: /,
      ) as string,
      consistentSeq: agent.lastNumber - 1,
    });
    await expectView(await run(store?.openView() ?? expect.unreachable()), agent, 'in the pause');
    const before = store?.state.appliedNumber;
    const applied = group.status().appliedSeq;
    const hello = { group: 'vm1', agentId: agent.line.id } as unknown as Hello;
    expect(await run(group.agent.meet({} as SeatedSession, hello))).toMatchObject({
      refused: { code: 'group-failed' },
    });
    await host.clock.advance(3000);
    expect([group.store, group.status().appliedSeq, applied]).toEqual([store, applied, before]);
    await host.clock.advance(2000);
    expect([group.store, group.trouble, toldOf('group-goes-on').length]).toEqual([store, null, 1]);
    await send();
    expect(store?.state).toMatchObject({ durableNumber: agent.lastNumber, stalled: null });
    await run(group.close(true));
    expect([toldOf('group-reopening').length, toldOf('apply-failed').length]).toEqual([2, 2]);
  });

  it('in such a pause gives way to a stop', async () => {
    await rotRecord(host.files, agent, record);
    await fold();
    await host.clock.advance(1000);
    agent.write(0, 50_000, pattern(4000, 5));
    await send();
    await rotRecord(host.files, agent, agent.lastNumber);
    await fold();
    await host.clock.advance(1000);
    expect(group.trouble).toContain('for readers alone');
    await run(group.close(true));
    await host.clock.advance(AN_HOUR_MS);
    expect([group.store, toldOf('group-goes-on').length]).toEqual([null, 0]);
  });

  it('is left as it is when the disk has failed to sync its journal: what is read then may be on no disk (DURABLE)', async () => {
    const { store } = group;
    host.files.inject({ operation: 'sync', path: /\.seg$/, fault: 'io-error' });
    agent.write(0, 50_000, pattern(1000, 5));
    await send();
    expect(store?.progress.stalled).toBe('journal-failed');
    await rotRecord(host.files, agent, record);
    await fold();
    await host.clock.advance(AN_HOUR_MS);
    expect([group.store, opened.length]).toEqual([store, 1]);
    expect(toldOf('group-failed')).toEqual([
      expect.stringMatching(/a restart of the hub is needed once that is mended$/),
    ]);
    await expect(store?.openView()).rejects.toMatchObject({ code: 'journal-damaged' });
    await run(group.close(false));
  });

  it.each([
    ['its journal', /\.seg$/],
    ['its decisions', /decisions\.log$/],
  ])('stays closed when the disk fails to sync %s while it is closed', async (_what, path) => {
    await run(group.openTest({ leaseMs: null, scratchBytes: SIZE }));
    await rotRecord(host.files, agent, record);
    // Nothing has been synced that was not, when it is closed: its last segment is cut, and the test's end decided.
    host.files.inject({ operation: 'sync', path, fault: 'io-error' });
    await fold();
    await host.clock.advance(AN_HOUR_MS);
    expect([group.store, opened.length]).toEqual([null, 1]);
    expect(toldOf('group-failed')).toEqual([
      expect.stringMatching(/a restart of the hub is needed once that is mended$/),
    ]);
    expect(group.status().state).toBe('degraded');
    await run(group.close(false));
  });

  it('is opened when there is room, where there was none for that', async () => {
    await rotRecord(host.files, agent, record);
    const fault = host.files.inject({ operation: 'open', path: /\/applied$/, fault: 'too-many-files', times: 2 });
    await fold();
    await host.clock.advance(1000);
    expect([group.store, toldOf('group-failed')]).toEqual([null, [expect.stringMatching(/tried again by itself$/)]]);
    await host.clock.advance(20_000);
    fault.remove();
    expect(group.store?.state.corrupted).toContain(`record ${record}`);
    await run(group.close(false));
  });

  it('names the damage also where the disk has not noted that this was durable: nothing of it is cut (TORN)', async () => {
    agent.write(0, 50_000, pattern(1000, 5));
    host.files.inject({ operation: 'write', path: /\/durable$/, fault: 'io-error', times: 100 });
    await host.clock.advance(2000);
    await send();
    const last = agent.lastNumber;
    await rotRecord(host.files, agent, last);
    await fold();
    await host.clock.advance(1000);
    expect(group.store?.state.corrupted).toContain(`record ${last}`);
    expect(toldOf('journal-tail-cut')).toEqual([]);
    await run(group.close(false));
  });

  it('is opened anew also where a test that is open cannot be removed', async () => {
    await run(group.openTest({ name: 'try', leaseMs: null, scratchBytes: SIZE }));
    await rotRecord(host.files, agent, record);
    host.files.inject({ operation: 'remove', path: /\/branches\//, fault: 'io-error' });
    await fold();
    await host.clock.advance(1000);
    expect(group.store?.state).toMatchObject({ lastNumber: record - 1, branches: [] });
    expect(group.status().tests).toEqual([]);
    await run(group.close(false));
  });

  it('gives the reading of its journal up when the hub stops, and has cut nothing', async () => {
    await rotRecord(host.files, agent, record);
    await run(group.close(false));
    const before = host.files.pathsBelow(DIRECTORY).map((path) => [path, host.files.storedBytes(path)]);
    const [options] = opened;
    if (options === undefined) throw new Error('never opened');
    const again = openGroupStore(host, { ...options, isGivenUp: () => true });
    await expect(run(again)).rejects.toThrow('is closed while its journal is read');
    expect(host.files.pathsBelow(DIRECTORY).map((path) => [path, host.files.storedBytes(path)])).toEqual(before);
    // Whoever stops the group is whom the store asks.
    expect(options.isGivenUp?.()).toBe(true);
  });
});
