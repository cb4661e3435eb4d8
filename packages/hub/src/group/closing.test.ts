import { type SimPlatform, simPlatform } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { noCatalogue } from '../catalogue/catalogue.js';
import { openGroupStore } from '../storage/index.js';
import { ScriptedAgent } from '../storage/testing/scripted-agent.js';
import { DIRECTORY, expectBase, openStore, pattern, startedStore } from '../storage/testing/store-kit.js';
import { Group } from './group.js';

async function run<T>(host: SimPlatform, work: Promise<T>): Promise<T> {
  let over = false;
  void work.finally(() => (over = true)).catch(() => undefined);
  await host.clock.runUntil(() => over, 60_000);
  return await work;
}

it('a test that cannot be removed does not keep a group from being closed, and its images from being brought up to date', async () => {
  const host = simPlatform(3);
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', 64 * 1024);
  agent.spanBegin();
  agent.write(0, 0, pattern(4096, 1));
  agent.spanEnd();
  const made = await run(host, startedStore(host, agent, { retentionMs: 3_600_000 }));
  await run(host, made.close({ drain: false }));
  const told: string[] = [];
  const group = new Group(
    'vm1',
    DIRECTORY,
    {
      platform: host,
      identity: { hubId: '00000000-0000-4000-8000-00000000000f', epoch: 1 },
      software: 'test',
      times: { heartbeatMs: 1000, timeoutMs: 5000 },
      storage: { retentionMs: 3_600_000, indexBytes: 1024 * 1024 },
      openStore: openGroupStore,
      catalogue: noCatalogue(),
      toldSoFar: () => () => true,
    },
    (_level, event) => told.push(event),
  );
  await run(host, group.recover());
  for (const name of ['one', 'two']) {
    await run(host, group.openTest({ name, leaseMs: null, scratchBytes: 1 << 20 }));
  }
  host.files.inject({ operation: 'write', path: 'decisions.log', fault: 'io-error' });
  await run(host, group.close(true));
  expect(group.store).toBeNull();
  expect(told.filter((event) => event.startsWith('test-drop'))).toEqual([
    'test-dropped',
    'test-dropped',
    'test-drop-failed',
  ]);
  await run(host, expectBase(host.files, agent, agent.lastNumber, 'closed'));
  const reopened = await run(host, openStore(host));
  expect(reopened.state).toMatchObject({ branches: [], corrupted: null, appliedNumber: agent.lastNumber });
  await run(host, reopened.close({ drain: false }));
});
