// An agent that waits for its upstream at its start says so to whoever asks, refuses what needs the group, and ends at once when told to.
import { existsSync } from 'node:fs';
import { rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { unixUri } from '../kit/addresses.js';
import { command } from '../kit/commands.js';
import { nbdkit } from '../kit/peers.js';
import { AgentPlace } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const MiB = 1 << 20;

interface Answer {
  readonly code: number;
  readonly text: string;
}

async function get(agent: AgentPlace, path: string): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${agent.httpPort}${path}`);
  return { code: response.status, text: await response.text() };
}

interface Waiting {
  readonly agent: AgentPlace;
  readonly file: string;
  readonly socket: string;
  readonly serves: Promise<void>;
}

/** An agent over a file and a server that are not there yet. */
async function waitingAgent(scope: Scope, args: readonly string[]): Promise<Waiting> {
  const dir = await tempDir(scope);
  const [file, socket] = [join(dir, 'disk.raw'), join(dir, 'data.sock')];
  const volumes = [
    { name: 'disk0', upstream: `file:${file}` },
    { name: 'data', upstream: unixUri(socket) },
  ];
  const agent = await AgentPlace.prepare(scope, { volumes, args });
  const serves = agent.start();
  serves.catch(() => undefined);
  return { agent, file, socket, serves };
}

async function makeDisk(file: string): Promise<void> {
  await writeFile(`${file}.new`, '');
  await truncate(`${file}.new`, 8 * MiB);
  await rename(`${file}.new`, file);
}

test(
  'what it waits for is in status, metrics and healthz; commands are to be tried later',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { agent, file, socket, serves } = await waitingAgent(scope, ['--wait-upstream', 'yes']);
    const told = await agent.waitFor('the third try', ({ upstream }) => (upstream[0]?.tries ?? 0) > 2);
    expect(told).toMatchObject({
      name: 'vm1',
      starting: true,
      state: 'unprotected',
      rpoSeconds: null,
      dirtyBytes: null,
    });
    expect(told.reason).toMatch(/waiting since \d{4}-.*disk\.raw of disk0, tried \d+ times: there is no file/);
    expect(told.upstream).toMatchObject([
      { volume: 'disk0', up: false, state: 'awaited', reason: expect.stringContaining('there is no file') as string },
      { volume: 'data', up: false, state: 'awaited', since: null, tries: 0 },
    ]);

    const state = ['--state', agent.stateDir];
    const status = await command('repagent', ['status', ...state]);
    expect(status).toMatchObject({ code: 0, stderr: '' });
    expect(status.stdout).toMatch(
      /disk0 file:.*awaited since .*tried \d+ times: there is no file.*data nbd.*not its turn yet/s,
    );
    for (const refused of [['pause'], ['resume'], ['mode', 'sync'], ['resync'], ['resync', '--full'], ['verify']]) {
      const result = await command('repagent', [...refused, ...state]);
      expect(result.code, result.stderr).toBe(75);
      expect(result.stderr, refused.join(' ')).toMatch(/disk\.raw of disk0.*there is no file/);
    }
    expect(await get(agent, '/healthz')).toMatchObject({
      code: 503,
      text: expect.stringMatching(/disk0.*no file/) as string,
    });
    const { text } = await get(agent, '/metrics');
    expect(text).toContain('repagent_upstream_up{group="vm1"} 0');
    expect(text).toMatch(/repagent_upstream_awaited_tries_total\{volume="disk0",group="vm1"\} \d+/);
    expect(text).not.toContain('dirty_bytes');

    await makeDisk(file);
    const next = await agent.waitFor('its turn', ({ upstream }) => upstream[0]?.up === true);
    expect(next.reason).toMatch(/of data/);
    expect(next.volumes).toEqual([
      { name: 'disk0', sizeBytes: 8 * MiB },
      { name: 'data', sizeBytes: null },
    ]);
    await nbdkit(scope, ['memory', '16M'], { at: { socket } });
    await serves;
    expect(await get(agent, '/healthz')).toEqual({ code: 200, text: 'ok\n' });
    expect(await agent.status()).toMatchObject({ starting: false, dirtyBytes: 24 * MiB });
    expect((await agent.child.stop()).code).toBe(0);
  },
);

test('with a limit on retries it answers too, until it gives up', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: unixUri(join(await tempDir(scope), 'nobody.sock')) }],
    args: ['--retries', '1', '--retry-delay', '5s'],
  });
  const serves = agent.start();
  serves.catch(() => undefined);
  const told = await agent.waitFor('the first failure', ({ reason }) => reason.includes('tried 1 times'));
  expect(told.reason).toContain('nobody.sock');
  await expect(serves).rejects.toThrow(/nobody\.sock/);
  expect(agent.child.exit?.code).toBe(75);
  expect(existsSync(agent.controlSocket)).toBe(false);
});

test('it has its directory to itself, and a signal ends it at once and in order', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { agent } = await waitingAgent(scope, ['--wait-upstream', 'yes']);
  await waitUntil('the control socket', () => existsSync(agent.controlSocket));
  const args = ['run', '--group', 'vm1', '--upstream', 'file:/nonexistent', '--state', agent.stateDir];
  const second = await command('repagent', [...args, '--wait-upstream', 'yes', '--listen', 'nbd://127.0.0.1:0']);
  expect(second.code).toBe(75);
  expect(second.stderr).toContain('in use by another agent');
  expect((await command('repagent', ['status', '--state', agent.stateDir])).code).toBe(0);
  agent.child.signal('SIGTERM');
  expect(await agent.child.waitForExit(15_000)).toEqual({ code: 0, signal: null });
  expect(existsSync(agent.controlSocket)).toBe(false);
});

test('two files that were not there may not come to be one', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const dir = await tempDir(scope);
  const [one, other] = [join(dir, 'one.raw'), join(dir, 'other.raw')];
  const volumes = [
    { name: 'one', upstream: `file:${one}` },
    { name: 'other', upstream: `file:${other}` },
  ];
  const agent = await AgentPlace.prepare(scope, { volumes, args: ['--wait-upstream', 'yes'] });
  const serves = agent.start();
  serves.catch(() => undefined);
  await agent.waitFor('the wait', ({ reason }) => reason.startsWith('waiting'));
  await symlink(one, other);
  await makeDisk(one);
  await expect(serves).rejects.toThrow(/have the same disk/);
  expect(agent.child.exit?.code).toBe(2);
});
