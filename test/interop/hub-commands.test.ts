// What a person types at a hub, against `rephub serve` as a process: output, exit codes, and what must be confirmed.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodePlatform } from '@rephub/platform/node';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { command, COMMANDS } from '../kit/commands.js';
import { type RunResult, start } from '../kit/process.js';
import { HubPlace } from '../kit/rephub-system.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { type Scope } from '../kit/scope.js';
import { groupsOf } from '../kit/status.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const idSchema = z.looseObject({ id: z.number() });

interface Place {
  readonly hub: HubPlace;
  readonly agent: ScriptedAgent;
  readonly rephub: (...args: string[]) => ReturnType<typeof command>;
}

async function place(scope: Scope, env: Record<string, string> = {}): Promise<Place> {
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const agent = new ScriptedAgent(nodePlatform(), { kind: 'tcp', host: '127.0.0.1', port: hub.linkPort });
  await agent.protect();
  const environment = { REPHUB_HTTP: hub.http, ...env };
  return { hub, agent, rephub: async (...args) => await command('rephub', args, { env: environment }) };
}

test('status and groups show each group, as a table and as the JSON of the contract', async () => {
  const { hub, agent, rephub } = await place(testScope());
  await hub.waitFor('vm1', 'protected', ({ state }) => state === 'protected');
  const table = await rephub('status');
  expect(table.stdout).toMatch(/^GROUP +STATE +RPO/);
  expect(table.stdout).toMatch(/vm1 +protected/);
  const json = groupsOf((await rephub('status', 'vm1', '--json')).stdout);
  expect(json).toMatchObject([{ name: 'vm1', state: 'protected', durableSeq: agent.lastNumber }]);
  // What a beat that comes late on a busy machine adds.
  expect(json[0]?.rpoSeconds ?? Infinity).toBeLessThan(5);
  expect((await rephub('groups')).stdout).toMatch(/vm1 +disk0 +8 MiB/);
  expect(groupsOf((await rephub('groups', '--json')).stdout)).toHaveLength(1);
  const unknown = await rephub('status', 'vm9');
  expect(unknown).toMatchObject({ code: 2, stderr: 'rephub: there is no group called vm9; this hub has vm1\n' });
});

test('status --watch goes on until it is interrupted', async () => {
  const scope = testScope();
  const { hub } = await place(scope);
  const child = start(scope, process.execPath, [COMMANDS.rephub, 'status', '--watch', '--json', '--http', hub.http]);
  await child.waitForOutput(/\n.*vm1.*\n/);
  await child.stop();
});

test(
  'status --watch outlives a restart of the hub, and says that it is away and back',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const { hub } = await place(scope);
    const child = start(scope, process.execPath, [COMMANDS.rephub, 'status', '--watch', '--http', hub.http]);
    await child.waitForOutput(/vm1 +protected/);
    await hub.child.stop();
    await child.waitForOutput(/The hub is away since 20\S+Z: .*nobody answers.* Waiting for it\./);
    await hub.start();
    // No agent has come back: the hub knows how old the newest point is at least.
    await child.waitForOutput(/The hub answers again\..*vm1 +\S+ +≥ /s);
    await child.stop();
  },
);

test('without a hub the commands say that nobody answers, and that another try may help', async () => {
  const result = await command('rephub', ['status', '--http', '127.0.0.1:1']);
  expect(result.code).toBe(75);
  expect(result.stderr).toContain('127.0.0.1:1');
});

test('a verification that cannot begin could not tell: 75, never 1, which says that they differ', async () => {
  const { hub, agent, rephub } = await place(testScope());
  agent.cut();
  await agent.ended();
  expect(await rephub('verify', 'vm1')).toMatchObject({
    code: 75,
    stderr: expect.stringContaining('not connected') as string,
  });
  const agentless = ['verify', '--state', join(hub.dataDir, 'nobody')];
  expect(await command('repagent', agentless)).toMatchObject({ code: 75 });
});

test('events tell what happened, and go on with --follow', async () => {
  const scope = testScope();
  const { hub, agent, rephub } = await place(scope);
  expect((await rephub('events')).stdout).toMatch(/vm1 session-began: first-sync \(L1-unknown-new\)/);
  const child = start(scope, process.execPath, [COMMANDS.rephub, 'events', '--follow', '--json', '--http', hub.http]);
  await child.waitForOutput(/"session-began"/);
  await agent.bye();
  const ended = await child.waitForOutput(/^.*"session-ended".*$/m);
  expect(JSON.parse(ended[0])).toMatchObject({ group: 'vm1', event: 'session-ended' });
});

test('events outlive the hub, killed or stopped, and --follow goes on with the next one', async () => {
  const scope = testScope();
  const { hub, agent, rephub } = await place(scope);
  const child = start(scope, process.execPath, [COMMANDS.rephub, 'events', '-f', '--json', '--http', hub.http]);
  await child.waitForOutput(/"session-began"/);
  await hub.child.killHard();
  await agent.ended();
  await child.waitForOutput(/Waiting for it/);
  await hub.start();
  const again = await child.waitForOutput(/^.*"hub-started".*"orderly":false.*$/m);
  expect(JSON.parse(again[0])).toMatchObject({ level: 'warn', event: 'hub-started' });
  const afterKill = (await rephub('events')).stdout;
  expect(afterKill).toMatch(/session-began: first-sync \(L1-unknown-new\)[\s\S]*hub-started: .* without a word/);
  // What an earlier run has told is not logged a second time.
  expect(hub.child.output).not.toContain('session-began');
  await hub.child.stop();
  await hub.start();
  const afterStop = (await rephub('events')).stdout;
  expect(afterStop).toMatch(/session-began[\s\S]*hub-stopped[\s\S]*hub-started: .* stopped in order/);
  const ids = (await rephub('events', '--json')).stdout
    .trim()
    .split('\n')
    .map((line) => idSchema.parse(JSON.parse(line)).id);
  expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
});

test('read fetches a region from the source into a file or to stdout', async () => {
  const scope = testScope();
  const { agent, rephub } = await place(scope);
  const source = Buffer.alloc(8 * MIB);
  for (let at = 0; at < source.length; at += 4) source.writeUInt32LE((at * 2654435761) >>> 0, at);
  agent.onReadRegion = ({ tag, offset, length }) =>
    agent.write(offset, source.subarray(offset, offset + length), { flags: 3, tag });
  const file = join(await tempDir(scope), 'region');
  const result = await rephub('read', 'vm1/disk0', '--offset', '1000', '--length', '5MiB', '--out', file);
  expect(result).toMatchObject({ code: 0 });
  expect((await readFile(file)).equals(source.subarray(1000, 1000 + 5 * MIB))).toBe(true);
  for (const name of ['vm1', 'vm1/disk0@latest', 'vm1/disk0!t']) {
    expect(await rephub('read', name, '--offset', '0', '--length', '1')).toMatchObject({ code: 2 });
  }
  await agent.bye();
  expect(await rephub('read', 'vm1/disk0', '--offset', '0', '--length', '1')).toMatchObject({ code: 75 });
});

test('resync reaches the agent; a full one must be confirmed', async () => {
  const { agent, rephub } = await place(testScope());
  expect(await rephub('resync', 'vm1')).toMatchObject({ code: 0 });
  await agent.until('the request', () => agent.requests.includes('resync'));
  const plan = await rephub('resync', 'vm1', '--full');
  expect(plan).toMatchObject({ code: 2 });
  expect(plan.stderr).toContain('up to 8 MiB');
  expect(agent.requests).not.toContain('resync-full');
  expect(await rephub('resync', 'vm1', '--full', '--yes')).toMatchObject({ code: 0 });
  await agent.until('the request', () => agent.requests.includes('resync-full'));
});

test('enroll lets the next unknown agent in, once, also after the hub was killed', async () => {
  const { hub, agent, rephub } = await place(testScope());
  expect(await rephub('enroll', 'vm1')).toMatchObject({ code: 0 });
  await hub.child.killHard();
  await hub.start();
  const address = { kind: 'tcp', host: '127.0.0.1', port: hub.linkPort } as const;
  await new ScriptedAgent(nodePlatform(), address).protect();
  await expect(new ScriptedAgent(nodePlatform(), address).begin()).rejects.toThrow(/belongs to agent/);
  await expect(agent.begin()).rejects.toThrow(/belongs to agent/);
});

test('forget shows what would be lost and does nothing without --yes', async () => {
  const { hub, rephub } = await place(testScope());
  const plan = await rephub('forget', 'vm1');
  expect(plan).toMatchObject({ code: 2 });
  expect(plan.stderr).toMatch(/disk0 \(8 MiB\).*no way back/s);
  expect(await hub.status('vm1')).toMatchObject({ name: 'vm1' });
  expect(await rephub('forget', 'vm1', '--yes')).toMatchObject({ code: 0 });
  await expect(hub.status('vm1')).rejects.toThrow('knows no group');
});

test('with REPHUB_TOKEN set, only those who have it are answered', async () => {
  const scope = testScope();
  const data = join(await tempDir(scope), 'data');
  const child = start(
    scope,
    process.execPath,
    [
      COMMANDS.rephub,
      'serve',
      '--data',
      data,
      '--listen',
      'tcp://127.0.0.1:0',
      '--http',
      `unix:${data}.sock`,
      '--nbd',
      'nbd://127.0.0.1:0',
    ],
    { env: { REPHUB_TOKEN: 'secret' } },
  );
  await child.waitForOutput(/rephub is ready/);
  const ask = async (token: string): Promise<RunResult> =>
    await command('rephub', ['status', '--http', `unix:${data}.sock`], { env: { REPHUB_TOKEN: token } });
  const none = await ask('');
  expect(none.code).toBe(2);
  expect(none.stderr).toContain('none came: set REPHUB_TOKEN');
  for (const wrong of [await ask('wrong'), await ask('wrong')]) {
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('is not the one');
  }
  expect(await ask('secret')).toMatchObject({ code: 0 });
  // The hub tells it too: of each kind once.
  expect(child.output.match(/ warn +http-refused .*path=\/api\/v1\/groups times=1/g)).toHaveLength(2);
});
