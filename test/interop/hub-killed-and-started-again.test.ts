// `rephub serve` as a process: killed, stopped, started again, fed garbage. What it acknowledged as durable must be there.
import { connect } from 'node:net';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectNbd } from '@rephub/nbd';
import { LinkFault } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { expect, test } from 'vitest';
import { command, COMMANDS } from '../kit/commands.js';
import { compareFiles, copyOf } from '../kit/contents.js';
import { start } from '../kit/process.js';
import { HubPlace } from '../kit/rephub-system.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const SIZE = 16 * MIB;

function agentOf(hub: HubPlace): ScriptedAgent {
  const address = { kind: 'tcp', host: '127.0.0.1', port: hub.linkPort } as const;
  return new ScriptedAgent(nodePlatform(), address, { volumes: [{ name: 'disk0', sizeBytes: SIZE }] });
}

interface Protected {
  readonly hub: HubPlace;
  readonly agent: ScriptedAgent;
  /** What the agent's disk holds; zeroes at first. */
  readonly disk: Buffer;
}

/** A hub, and an agent whose empty disk it holds. */
async function protectedBy(scope: Scope, args: readonly string[] = []): Promise<Protected> {
  const hub = await HubPlace.prepare(scope, { args });
  await hub.start();
  const agent = agentOf(hub);
  await agent.protect();
  return { hub, agent, disk: Buffer.alloc(SIZE) };
}

async function fileOf(scope: Scope, bytes: Buffer): Promise<string> {
  const path = join(await tempDir(scope), 'expected.raw');
  await writeFile(path, bytes);
  return path;
}

/** Random-looking writes, applied to `disk` as well. */
function writeSome(agent: ScriptedAgent, disk: Buffer, count: number, seed: number): void {
  for (let round = 0; round < count; round += 1) {
    const offset = (((round + seed) * 48_271) % (SIZE / 4096)) * 4096;
    const bytes = Buffer.alloc(4096, (round * 31 + seed) % 251);
    bytes.copy(disk, offset);
    agent.write(offset, bytes);
  }
}

test('DURABLE, TORN: killed in the middle of a stream, again and again, the hub loses nothing it acknowledged', async () => {
  const scope = testScope();
  const { hub, agent, disk } = await protectedBy(scope);
  for (let kill = 1; kill <= 3; kill += 1) {
    const from = agent.lastNumber;
    writeSome(agent, disk, 2000, kill * 1000);
    // Somewhere in the middle: part is durable, part is received, part is on its way.
    await agent.durableUpTo(from + 300 * kill);
    await hub.child.killHard();
    await agent.ended();
    const acknowledged = agent.durable;
    await hub.start();
    const status = await hub.status('vm1');
    expect(status.durableSeq).toBeGreaterThanOrEqual(acknowledged);
    expect(await agent.begin()).toMatchObject({ kind: 'resume' });
    await agent.durableUpTo(agent.lastNumber);
  }
  const copied = await copyOf(scope, hub.uri('vm1', 'disk0'));
  expect(await compareFiles(copied, await fileOf(scope, disk))).toEqual({ verdict: 'same', said: '' });
}, 120_000);

test('stopped in order with retention 0, the base image alone is the replica, to the byte', async () => {
  const scope = testScope();
  const { hub, agent, disk } = await protectedBy(scope, ['--retention', '0']);
  writeSome(agent, disk, 1000, 5);
  await agent.durableUpTo(agent.lastNumber);
  const began = performance.now();
  expect(await hub.child.stop()).toEqual({ code: 0, signal: null });
  expect(performance.now() - began).toBeLessThan(10_000);
  expect((await agent.ended()).fault).toBeNull();
  expect(await compareFiles(hub.baseFile('vm1', 'disk0'), await fileOf(scope, disk))).toEqual({
    verdict: 'same',
    said: '',
  });
});

test('a lost, an old or a damaged catalogue is made anew, and nothing else changes', async () => {
  const scope = testScope();
  const { hub, agent, disk } = await protectedBy(scope);
  writeSome(agent, disk, 100, 1);
  await agent.durableUpTo(agent.lastNumber);
  const catalogue = join(hub.dataDir, 'catalogue.sqlite');
  const expected = await fileOf(scope, disk);
  for (const spoil of [
    async () => await rm(catalogue),
    async () => await writeFile(catalogue, Buffer.alloc(100_000, 0xa5)),
  ]) {
    await hub.child.killHard();
    await spoil();
    await rm(`${catalogue}-wal`, { force: true });
    await hub.start();
    expect(await hub.status('vm1')).toMatchObject({ seq: agent.lastNumber });
    expect(await compareFiles(await copyOf(scope, hub.uri('vm1', 'disk0')), expected)).toEqual({
      verdict: 'same',
      said: '',
    });
  }
  expect(hub.child.output).toContain('catalogue-set-aside');
}, 60_000);

test('garbage on any port ends that connection, is counted, and harms nobody else', async () => {
  const scope = testScope();
  const { hub, agent } = await protectedBy(scope);
  const garbage = Buffer.alloc(100_000, 0xc3);
  for (const target of [hub.linkPort, hub.nbdPort, hub.httpPort, hub.nbdSocket]) {
    await new Promise<void>((resolve) => {
      const socket = typeof target === 'number' ? connect(target, '127.0.0.1') : connect(target);
      socket.on('error', () => undefined);
      socket.on('close', () => resolve());
      socket.resume();
      socket.write(garbage);
    });
  }
  const metrics = await (await fetch(`http://${hub.http}/metrics`)).text();
  expect(metrics).toMatch(/rephub_agent_session_ends_total\{code="frame-magic"\} 1/);
  expect(metrics).toMatch(/rephub_nbd_faults_total\{code="[a-z-]+"\} [1-9]/);
  await agent.durableUpTo(agent.write(0, Buffer.alloc(4096, 1)));
});

test('a second hub on the same data is told to try again, one on a directory that is not ours that it is wrong', async () => {
  const scope = testScope();
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const serve = async (data: string): ReturnType<typeof command> =>
    await command('rephub', ['serve', '--data', data, '--listen', 'tcp://127.0.0.1:0', '--http', '127.0.0.1:0']);
  const second = await serve(hub.dataDir);
  expect(second).toMatchObject({ code: 75 });
  expect(second.stderr).toContain('in use by another rephub');
  const foreign = await tempDir(scope);
  await writeFile(join(foreign, 'holiday.jpg'), 'x');
  const third = await serve(foreign);
  expect(third).toMatchObject({ code: 2 });
  expect(third.stderr).toContain('not a data directory of rephub');
});

test.for([
  [['--listen', 'tcp://0.0.0.0:0'], '--listen'],
  [['--nbd', 'nbd://0.0.0.0:0'], '--nbd'],
  [['--http', '0.0.0.0:0'], '--http'],
  [['--listen', 'carrier://pigeon'], '--listen'],
  [['--retention', 'soon'], '--retention'],
  [['--journal-max', '1KiB'], '--journal-max'],
] as const)('a wrong option %j is refused by name, before anything is made', async ([args, option]) => {
  const scope = testScope();
  const data = join(await tempDir(scope), 'data');
  const result = await command('rephub', ['serve', '--data', data, ...args]);
  expect(result.code).toBe(2);
  expect(result.stderr).toContain(option);
});

test('SIGTERM ends it in order though clients of replicas and tests are connected', async () => {
  const scope = testScope();
  const { hub } = await protectedBy(scope);
  expect(await command('failover-test', ['vm1', '--http', hub.http, '--name', 't', '--keep'])).toMatchObject({
    code: 0,
  });
  const clients = await Promise.all(
    ['', '!t'].map(async (suffix) => await connectNbd(nodePlatform(), hub.uri('vm1', 'disk0', suffix))),
  );
  const began = performance.now();
  expect(await hub.child.stop()).toEqual({ code: 0, signal: null });
  expect(performance.now() - began).toBeLessThan(10_000);
  for (const client of clients) client.destroy(new LinkFault('test-over', 'the test is over'));
});

test('SIGHUP opens the log anew by its name', async () => {
  const scope = testScope();
  const log = join(await tempDir(scope), 'rephub.log');
  const hub = await HubPlace.prepare(scope, { args: ['--log-file', log] });
  await hub.start();
  expect(hub.child.stdout).toContain('rephub is ready');
  await waitUntil('the log', async () => (await readFile(log, 'utf8')).includes('ready'));
  await rename(log, `${log}.1`);
  hub.child.signal('SIGHUP');
  await waitUntil('the new log', async () => {
    // Something to write about, until the signal has been seen: each agent is another one, and is refused or begins.
    await agentOf(hub)
      .begin()
      .catch(() => undefined);
    return await readFile(log, 'utf8').then(
      (text) => text.length > 0,
      () => false,
    );
  });
  await hub.child.stop();
  expect(await readFile(log, 'utf8')).toContain('stopped');
});

test('a second signal ends the hub at once', async () => {
  const scope = testScope();
  const { hub, agent } = await protectedBy(scope);
  hub.child.signal('SIGTERM');
  hub.child.signal('SIGINT');
  expect(await hub.child.waitForExit(3000)).toEqual({ code: 1, signal: null });
  await hub.start();
  expect(await hub.status('vm1')).toMatchObject({ seq: agent.lastNumber });
});

test('says that it is ready, with the real addresses, as one line of JSON for whoever asks for JSON', async () => {
  const scope = testScope();
  const data = join(await tempDir(scope), 'data');
  const child = start(scope, process.execPath, [
    ...[COMMANDS.rephub, 'serve', '--data', data, '--listen', 'tcp://127.0.0.1:0', '--http', '127.0.0.1:0'],
    ...['--nbd', 'nbd://127.0.0.1:0', '--log-format', 'json'],
  ]);
  await child.waitForOutput(/"event":"ready".*\n/);
  const line = child.stdout.split('\n')[0] ?? '';
  const ready = JSON.parse(line) as Record<string, string>;
  expect(ready['listen']).toMatch(/^tcp:\/\/127\.0\.0\.1:[1-9][0-9]+$/);
  expect(ready['nbd']).toMatch(/^nbd:\/\/127\.0\.0\.1:[1-9][0-9]+/);
  expect((await fetch(`http://${ready['http'] ?? ''}/healthz`)).status).toBe(200);
});
