// What the status commands print, for people and for scripts, and their exit codes.
import { inspectState } from '@rephub/bitmap';
import { nodePlatform } from '@rephub/platform/node';
import { hostname } from 'node:os';
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { sparseFile } from '../kit/peers.js';
import { AgentPlace, HubPlace, startSystem } from '../kit/rephub-system.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
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

test(
  'a group that is not there: wrong usage of every command, which names those that are',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const { hub } = await startSystem(scope, `file:${await sparseFile(scope, 1 << 20)}`);
    for (const [name, ...args] of [
      ['rephub', 'status', 'nosuch'],
      ['rephub', 'status', 'nosuch', '--watch'],
      ['rephub', 'verify', 'nosuch'],
      ['rephub', 'resync', 'nosuch'],
      ['rephub', 'resync', 'nosuch', '--full', '--yes'],
      ['rephub', 'enroll', 'nosuch'],
      ['rephub', 'forget', 'nosuch', '--yes'],
      ['rephub', 'read', 'nosuch/disk0', '--offset', '0', '--length', '1'],
      ['rephub', 'test', 'drop', 'nosuch', 'x'],
      ['failover-test', 'nosuch', '--check', 'true'],
    ] as const) {
      const result = await command(name, [...args, '--http', hub.http], { timeoutMs: 20_000 });
      const stderr = `${name}: there is no group called nosuch; this hub has vm1\n`;
      expect(result, args.join(' ')).toMatchObject({ code: 2, stdout: '', stderr });
    }
  },
);

test('a token that the hub does not take, or none: wrong usage of every command', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const hub = await HubPlace.prepare(scope, { env: { REPHUB_TOKEN: 'right' } });
  await hub.start();
  for (const [name, ...args] of [
    ['rephub', 'status'],
    ['rephub', 'status', '--watch'],
    ['rephub', 'groups'],
    ['rephub', 'events'],
    ['rephub', 'events', '--follow'],
    ['rephub', 'verify', 'vm1'],
    ['rephub', 'resync', 'vm1'],
    ['rephub', 'seed', 'vm1/disk0', '/dev/null'],
    ['rephub', 'enroll', 'vm1'],
    ['rephub', 'forget', 'vm1', '--yes'],
    ['rephub', 'read', 'vm1/disk0', '--offset', '0', '--length', '1'],
    ['rephub', 'test', 'drop', 'vm1', 'x'],
    ['failover-test', 'vm1', '--check', 'true'],
  ] as const) {
    const none = ['events', 'verify'].includes(args[0]);
    const env = none ? {} : { REPHUB_TOKEN: 'wrong' };
    const result = await command(name, [...args, '--http', hub.http], { timeoutMs: 20_000, env });
    expect(result, args.join(' ')).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr, args.join(' ')).toMatch(
      none ? /asks for a token, and none came/ : /the token is not the one/,
    );
  }
  const right = { env: { REPHUB_TOKEN: 'right' } };
  expect(await command('rephub', ['status', '--http', hub.http], right)).toMatchObject({ code: 0 });
});

test('nobody there: 75, could not tell', { timeout: 60_000 }, async () => {
  const scope = testScope();
  expect((await command('rephub', ['status', '--http', '127.0.0.1:1'])).code).toBe(75);
  const none = await command('repagent', ['status', '--state', await tempDir(scope)]);
  expect(none.code, none.stderr).toBe(75);
});

test(
  'a split brain: both commands say who wrote what, the hub has it among its events',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const upstream = `file:${await sparseFile(scope, 8 * MIB)}`;
    const volumes = [{ name: 'disk0', upstream }];
    // Its first life is that of a mere proxy: it has an identity and a line, and no hub knows of them.
    const proxy = await AgentPlace.prepare(scope, { volumes });
    await proxy.start();
    await proxy.child.stop();
    const state = await inspectState(nodePlatform().files, proxy.stateDir);
    if (state === null) throw new Error('the proxy has left no state');
    const { agentId, line } = state.identity;
    const hub = await HubPlace.prepare(scope);
    await hub.start();
    const other = new ScriptedAgent(
      nodePlatform(),
      { kind: 'tcp', host: '127.0.0.1', port: hub.linkPort },
      { agentId },
    );
    await other.protect();
    const agent = await AgentPlace.prepare(scope, { volumes, stateDir: proxy.stateDir, hubUrl: hub.url });
    await agent.start();
    await agent.waitFor('the split brain', ({ reason }) => reason.startsWith('split-brain'));

    const ofAgent = await command('repagent', ['status', '--state', agent.stateDir]);
    const ofHub = await command('rephub', ['status', '--http', hub.http]);
    for (const { stdout } of [ofAgent, ofHub]) {
      expect(stdout).toMatch(/split-brain.*parted unknown: neither line says where it left the other/s);
      expect(stdout).toContain(`agent ${agentId} on ${hostname()}, line ${line.id}`);
      expect(stdout).toContain(`agent ${agentId} in session 1, line ${other.lineId} up to number ${other.lastNumber}`);
      expect(stdout).toMatch(/at most \d+ bytes that no hub has/);
    }
    expect(await hub.status('vm1')).toMatchObject({
      state: 'degraded',
      divergence: { kind: 'split-brain', common: null },
    });
    const events = await command('rephub', ['events', '--http', hub.http]);
    expect(events.stdout).toMatch(/split-brain.*Nothing is resolved by itself/);
  },
);
