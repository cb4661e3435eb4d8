// What the status commands print, for people and for scripts, and their exit codes.
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { sparseFile } from '../kit/peers.js';
import { startSystem } from '../kit/rephub-system.js';
import { agentGroupOf, groupsOf } from '../kit/status.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

/** What users and scripts hold on to. */
const KEYS = [
  ...['name', 'state', 'reason', 'mode', 'effectiveMode', 'rpoSeconds', 'lagBytes', 'seq', 'durableSeq', 'generation'],
  ...['agentConnected', 'lastResync', 'resync', 'failover', 'tests', 'volumes'],
];

test('both sides tell the same story, as text and as JSON', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 << 20)}`);
  await hub.waitFor('vm1', 'protected', ({ state }) => state === 'protected');

  const ofAgent = await command('repagent', ['status', '--json', '--state', agent.stateDir]);
  expect(ofAgent).toMatchObject({ code: 0, stderr: '' });
  const agentGroup = agentGroupOf(ofAgent.stdout);
  expect(Object.keys(agentGroup ?? {})).toEqual(
    expect.arrayContaining([...KEYS, 'upstream', 'hub', 'clients', 'dirtyBytes', 'hotExtents']),
  );

  const ofHub = await command('rephub', ['status', '--json', '--http', hub.http]);
  expect(ofHub).toMatchObject({ code: 0, stderr: '' });
  const [hubGroup] = groupsOf(ofHub.stdout);
  expect(Object.keys(hubGroup ?? {})).toEqual(expect.arrayContaining(KEYS));
  for (const key of ['name', 'state', 'seq', 'durableSeq', 'generation', 'volumes'] as const) {
    if (key === 'volumes') expect(hubGroup?.volumes).toMatchObject([...(agentGroup?.volumes ?? [])]);
    else expect(hubGroup?.[key]).toBe(agentGroup?.[key]);
  }

  expect((await command('repagent', ['status', '--state', agent.stateDir])).stdout).toMatch(/vm1.*protected/s);
  expect((await command('rephub', ['status', '--http', hub.http])).stdout).toMatch(/vm1 +protected/);
  expect((await command('rephub', ['groups', '--http', hub.http])).stdout).toMatch(/vm1 +disk0 +16 MiB/);
  const one = await command('rephub', ['status', 'vm1', '--json', '--http', hub.http]);
  expect(groupsOf(one.stdout)).toHaveLength(1);
});

test('nobody there: 75, could not tell; an unknown group: 1', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { hub } = await startSystem(scope, `file:${await sparseFile(scope, 1 << 20)}`);
  expect((await command('rephub', ['status', 'nosuch', '--http', hub.http])).code).toBe(1);
  expect((await command('rephub', ['status', '--http', '127.0.0.1:1'])).code).toBe(75);
  const none = await command('repagent', ['status', '--state', await tempDir(scope)]);
  expect(none.code, none.stderr).toBe(75);
});
