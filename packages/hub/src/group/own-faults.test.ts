/** A bug in one group is shown in its status and told; other groups, and the hub, notice nothing of it. */
import { type SimPlatform, simPlatform } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import { noCatalogue } from '../catalogue/catalogue.js';
import { Hub } from '../hub/hub.js';
import { type GroupStore, openGroupStore } from '../storage/index.js';
import { ScriptedAgent } from '../storage/testing/scripted-agent.js';
import { OWNER, pattern } from '../storage/testing/store-kit.js';
import { hubMetrics } from '../http/metrics.js';
import { OwnFaults } from './own-faults.js';

const NAMES = ['bad', 'good'];

describe('a group that meets a bug', () => {
  let host: SimPlatform;
  let hub: Hub;
  let stores: Map<string, GroupStore>;
  /** What looks at the state of the bad group's storage throws this. */
  let bug: Error | null;

  async function run<T>(work: Promise<T>): Promise<T> {
    let over = false;
    void work.finally(() => (over = true)).catch(() => undefined);
    await host.clock.runUntil(() => over, 60_000);
    return await work;
  }

  beforeEach(async () => {
    host = simPlatform(5);
    stores = new Map();
    bug = null;
    for (const name of NAMES) await host.files.makeDirectory(`/earlier/${name}`);
    const open = Hub.open(host, {
      directory: '/data',
      software: 'test',
      storage: { retentionMs: 3_600_000, indexBytes: 1024 * 1024 },
      openStore: async (platform, options) => {
        const store = await openGroupStore(platform, options);
        stores.set(options.group, store);
        if (options.group !== 'bad') return store;
        return Object.defineProperty(store, 'state', {
          get: () => {
            if (bug !== null) throw bug;
            return Reflect.get(Object.getPrototypeOf(store) as object, 'state', store) as unknown;
          },
        });
      },
      openCatalogue: () => Promise.resolve(noCatalogue()),
    });
    hub = await run(open);
    // As an operator's seed makes a group: none has an agent.
    for (const name of NAMES) {
      const image = await host.files.open(`/image-${name}`, 'create');
      await image.write([pattern(4096, 1)], 0);
      await image.close();
      await run(hub.seed(name, 'disk0', `/image-${name}`));
    }
  });

  function told(group: string): string[] {
    return hub.events.ofThisRun.filter((event) => event.group === group).map(({ event }) => event);
  }

  async function append(name: string): Promise<void> {
    const store = stores.get(name);
    const agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', 4096);
    await run(store?.setOwner(OWNER) ?? Promise.resolve());
    await run(store?.beginLine(agent.line) ?? Promise.resolve());
    if (store !== undefined) agent.sendTo(store);
    await run(store?.settled() ?? Promise.resolve());
  }

  it('says that it is degraded and why, and the hub goes on watching all of them', async () => {
    bug = new RangeError('no such time');
    await host.clock.advance(30_000);
    expect(hub.group('bad').status()).toMatchObject({
      name: 'bad',
      state: 'degraded',
      reason: 'internal-error: telling its status: no such time',
      consistentSeq: null,
    });
    expect(hub.status().groups.map(({ name }) => name)).toEqual(NAMES);
    expect(
      await hubMetrics({
        counters: hub.counters,
        agentConnections: 0,
        groups: hub.groups,
        nbdClients: () => 0,
      }).metrics(),
    ).toContain('group="good"');
    expect(told('bad').filter((event) => event === 'internal-error')).toHaveLength(2);
    bug = null;
    await append('good');
    await host.clock.advance(5000);
    expect(told('good')).toContain('state-changed');
    expect(hub.group('good').status()).toMatchObject({ durableSeq: 1 });
    await run(hub.close(false));
  });

  it('can be asked for its status again when that has passed; that there was one stays in it', async () => {
    await append('bad');
    bug = new Error('for once');
    await host.clock.advance(2000);
    bug = null;
    await host.clock.advance(2000);
    expect(hub.group('bad').status()).toMatchObject({ durableSeq: 1, state: 'unprotected' });
    expect(hub.group('bad').faults.newest).toContain('for once');
    await run(hub.close(false));
  });

  it('whose others throw when they hear of its storage goes on storing', async () => {
    const { agent } = hub.group('good');
    Object.defineProperty(agent, 'session', {
      get: () => {
        throw new TypeError('nobody there');
      },
    });
    await append('good');
    expect(stores.get('good')?.state).toMatchObject({ durableNumber: 1, stalled: null });
    expect(hub.group('good').faults.newest).toBe('hearing of its storage: nobody there');
    await run(hub.close(false)).catch(() => undefined);
  });
});

it('the same fault is told once a minute, another one at once', async () => {
  const { clock } = simPlatform(1);
  const told: string[] = [];
  const faults = new OwnFaults(clock, (_level, event, message) => told.push(`${event} ${message}`));
  expect(faults.newest).toBeNull();
  for (let time = 0; time < 3; time += 1) faults.caught('this', new Error('a'));
  faults.wallLater('that', () => Promise.reject(new Error('b')));
  await clock.advance(30_000);
  faults.caught('this', new Error('a'));
  expect(told).toEqual(['internal-error this: a', 'internal-error that: b']);
  await clock.advance(31_000);
  faults.caught('this', 'a');
  expect(told).toHaveLength(3);
});
