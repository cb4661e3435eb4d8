// A group that is being made: whoever comes and goes meanwhile, its directory is opened once.
import { openGroupStore } from '@rephub/hub';
import { expect, test } from 'vitest';
import { startHub } from '../kit/hub-in-process.js';
import { ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

/** The storage as it is, but for the first opening, which waits for `letGo`. */
function slowOpening(): { openStore: typeof openGroupStore; opened: () => number; letGo: () => void } {
  let letGo = (): void => undefined;
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  let opened = 0;
  const openStore: typeof openGroupStore = async (platform, options) => {
    opened += 1;
    if (opened === 1) await gate;
    return await openGroupStore(platform, options);
  };
  return { openStore, opened: () => opened, letGo };
}

test('the agent of a new group is cut off while its storage is being opened: the group is not forgotten, and not opened again', async () => {
  const { openStore, opened, letGo } = slowOpening();
  const hub = await startHub(testScope(), { openStore });
  const { hub: core } = hub.server;
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  const cut = agent.begin();
  cut.catch(() => undefined);
  await waitUntil('the storage to be opened', () => opened() === 1);
  agent.cut();
  await waitUntil('the hub to notice', () => core.agentConnections === 0);
  const again = agent.protect();
  again.catch(() => undefined);
  await waitUntil('the agent to be back', () => core.agentConnections === 1);
  letGo();
  await again;
  expect(opened()).toBe(1);
  expect(core.group('vm1').status()).toMatchObject({ durableSeq: agent.lastNumber });
});

test('a group that is forgotten twice at once is gone, and not made anew', async () => {
  const hub = await startHub(testScope());
  const { hub: core } = hub.server;
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  await agent.bye();
  const [first, second] = await Promise.allSettled([core.forget('vm1'), core.forget('vm1')]);
  expect(first.status).toBe('fulfilled');
  expect(second).toMatchObject({ status: 'rejected', reason: { code: 'being-forgotten' } });
  expect(core.groups).toEqual([]);
  expect(await hub.platform.files.list(`${hub.directory}/groups`)).toEqual([]);
  await expect(core.forget('vm1')).rejects.toMatchObject({ code: 'unknown-group' });
});
