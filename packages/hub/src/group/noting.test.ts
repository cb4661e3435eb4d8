import { SimClock, SimFiles, simPlatform } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { noCatalogue } from '../catalogue/catalogue.js';
import { openGroupStore } from '../storage/index.js';
import { ScriptedAgent } from '../storage/testing/scripted-agent.js';
import { DIRECTORY, startedStore } from '../storage/testing/store-kit.js';
import { Group } from './group.js';

it('tells the catalogue nothing once it is closed, however long a survey takes', async () => {
  const clock = new SimClock();
  let delayMs = 0;
  const files = new SimFiles({ clock, delayMs: () => delayMs });
  const host = simPlatform(1, { clock, files });
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let over = false;
    void work.finally(() => (over = true)).catch(() => undefined);
    await clock.runUntil(() => over, 60_000);
    return await work;
  };
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', 64 * 1024);
  await run(startedStore(host, agent).then((store) => store.close({ drain: false })));
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
      catalogue: { ...noCatalogue(), group: ({ group: name }) => told.push(name) },
      toldSoFar: () => () => true,
    },
    () => undefined,
  );
  await run(group.recover());
  told.length = 0;
  delayMs = 500;
  group.noteSoon();
  await clock.advance(1);
  delayMs = 1;
  await run(group.close(false));
  told.push('closed');
  group.noteSoon();
  await clock.advance(60_000);
  expect(told).toEqual(['vm1', 'vm1', 'closed']);
});
