// Times that no calendar has, told by an agent that is broken or lies: they end its session and nothing else (FRAME).
import { FrameType } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { startHub } from '../kit/hub-in-process.js';
import { ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

/** More milliseconds than a Date can take. */
const IMPOSSIBLE_MS = 1e300;

test('a Hello of another line whose oldest write is of an impossible time is refused, and the status can still be told', async () => {
  const hub = await startHub(testScope());
  const { hub: core } = hub.server;
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  await agent.bye();
  const other = new ScriptedAgent(hub.platform, hub.agents, { agentId: agent.agentId, session: 2 });
  await other.connect();
  const written = { markedBytes: 0, windowBytes: 0, sinceUnixMs: IMPOSSIBLE_MS };
  other.link.sendControl(FrameType.Hello, other.hello({ written }));
  expect((await other.ended()).refuse).toMatchObject({ code: 'bad-body' });
  await waitUntil('the hub to let go', () => core.agentConnections === 0);
  expect(core.group('vm1').status()).toMatchObject({ divergence: null });
});

test('a beat with an RPO that goes back before all time ends the session; a hub that is started again says what it knows', async () => {
  const scope = testScope();
  const hub = await startHub(scope);
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  agent.report = { ...agent.report, rpoMs: IMPOSSIBLE_MS };
  expect((await agent.ended()).refuse).toMatchObject({ code: 'bad-body' });
  await hub.close();
  const again = await startHub(scope, { directory: hub.directory });
  expect(again.server.hub.group('vm1').status()).toMatchObject({ state: 'unknown', consistentSeq: agent.lastNumber });
});
