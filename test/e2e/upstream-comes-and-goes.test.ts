// OUTAGE: the manners of flexnbd-proxy: one lasting connection in front of a server that comes and goes.
import { existsSync } from 'node:fs';
import { readFile, rename } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { readBytes, writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { listens, unixUri } from '../kit/addresses.js';
import { COMMANDS } from '../kit/commands.js';
import { CuttingProxy } from '../kit/cutting-proxy.js';
import { load } from '../kit/load.js';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit, nbdServer, qemuNbd, sparseFile } from '../kit/peers.js';
import { start } from '../kit/process.js';
import { AgentPlace } from '../kit/rephub-system.js';
import type { Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const RETRY = ['--retries', 'forever', '--retry-delay', '100ms'];
const fill = (at: number): Buffer => Buffer.alloc(4096, (at % 255) + 1);

/** An agent and its guest over a network that can be cut. */
async function overBadNetwork(
  scope: Scope,
  args: readonly string[] = RETRY,
  server: 'qemu-nbd' | 'nbdkit' = 'qemu-nbd',
) {
  // nbdkit answers sooner, but now and then aborts when its client is reset in the middle of an answer.
  const upstream =
    server === 'nbdkit'
      ? await nbdkit(scope, ['memory', '16M'], { at: 'tcp' })
      : await qemuNbd(scope, await sparseFile(scope, 16 * MiB), { at: 'tcp' });
  const network = await CuttingProxy.start(scope, upstream.address);
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: `nbd://127.0.0.1:${network.port}` }],
    args,
  });
  await agent.start();
  return { upstream, network, agent, guest: await ourClient(scope, agent.uri()) };
}

test(
  'the server goes before, in and after an answer: every byte of it, every read is right',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const { network, guest } = await overBadNetwork(scope);
    for (let at = 0; at < 8; at += 1) await writeBytes(guest, at * 4096, fill(at));
    for (const bytes of [0, 1, 3, 4, 8, 15, 16, 17, 19, 20, 21, 27, 28, 2048, 4115, 4116, 4117, 4123, 4124]) {
      network.cutAfter(bytes, 'down');
      const reads = Array.from({ length: 8 }, (_, at) => readBytes(guest, at * 4096, 4096));
      for (const [at, seen] of (await Promise.all(reads)).entries()) {
        expect(seen.equals(fill(at)), `cut at byte ${bytes}, block ${at}`).toBe(true);
      }
    }
  },
);

test('the server goes within a request that it is being sent', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { network, guest } = await overBadNetwork(scope);
  for (const [turn, bytes] of [1, 4, 16, 27, 28, 29, 2000, 4123, 4124, 4125, 9000].entries()) {
    network.cutAfter(bytes, 'up');
    await Promise.all(Array.from({ length: 8 }, (_, at) => writeBytes(guest, at * 4096, fill(turn * 8 + at))));
    for (let at = 0; at < 8; at += 1) {
      const seen = await readBytes(guest, at * 4096, 4096);
      expect(seen.equals(fill(turn * 8 + at)), `cut at byte ${bytes}, block ${at}`).toBe(true);
    }
  }
});

test('a server that says nothing more is left after --request-timeout, and what it had is asked again', async () => {
  const scope = testScope();
  const { network, guest, agent } = await overBadNetwork(scope, [...RETRY, '--request-timeout', '300ms']);
  await writeBytes(guest, 0, fill(1));
  network.swallow('down');
  const reading = readBytes(guest, 0, 4096);
  await agent.waitFor('the connection to be given up', ({ upstream }) => upstream[0]?.up === false);
  network.pass();
  expect((await reading).equals(fill(1))).toBe(true);
});

test('a return is noticed within 100 ms', async () => {
  const scope = testScope();
  const { network, guest, agent } = await overBadNetwork(scope, ['--retries', '5'], 'nbdkit');
  const tookMs: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    network.refuse();
    await agent.waitFor('upstream to be away', ({ upstream }) => upstream[0]?.up === false);
    network.pass();
    const from = performance.now();
    await readBytes(guest, 0, 4096);
    tookMs.push(performance.now() - from);
  }
  // The machine may be busy with other things: the quickest is what the agent does.
  expect(Math.min(...tookMs)).toBeLessThan(100);
});

test('clients come, go and are cut off; the upstream connection stays', async () => {
  const scope = testScope();
  const { network, agent } = await overBadNetwork(scope);
  const { connections } = network;
  for (let turn = 0; turn < 3; turn += 1) {
    const client = await ourClient(scope, agent.uri());
    await writeBytes(client, 0, fill(turn));
    if (turn === 1) client.destroy(new (await import('@rephub/platform')).LinkFault('test', 'cut off'));
    else await client.close();
  }
  expect(network.connections).toBe(connections);
  expect(network.openConnections).toBeGreaterThan(0);
});

test('many in flight, through cuts, verified by fio', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { network, agent } = await overBadNetwork(scope, [...RETRY, '--connections', '4']);
  const load64 = {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 64,
    sizeBytes: 8 * MiB,
    ratePerSecond: 2000,
  } as const;
  const state = { isOver: false };
  const cutting = (async () => {
    for (let cuts = 1; !state.isOver; cuts += 1) {
      network.cutAfter(400_000, 'up');
      await agent.waitFor('a reconnect', ({ upstream }) => state.isOver || (upstream[0]?.reconnects ?? 0) >= cuts);
    }
    return network.connections;
  })();
  const figures = await load(agent.uri(), { ...load64, verify: true });
  state.isOver = true;
  expect(await cutting).toBeGreaterThan(4);
  expect(figures.errors).toBe(0);
});

/** Somebody at the socket who is no proper NBD server. */
async function impostor(
  scope: Scope,
  socket: string,
  greeting: Buffer,
): Promise<{ server: Server; clients: Set<Socket> }> {
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client);
    client.on('error', () => undefined);
    client.write(greeting);
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  scope.defer('impostor', async () => await new Promise((resolve) => server.close(resolve)));
  return { server, clients };
}

test.for<readonly [what: string, greeting: Buffer]>([
  ['hangs after hello', Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1')],
  ['has the wrong magic', Buffer.from('NBDMAGIKIHAVEOPT\0\x03', 'latin1')],
  ['says nothing at all', Buffer.alloc(0)],
])(
  '--wait-upstream: a server that %s is no upstream; guests are let in when there is one',
  { timeout: 60_000 },
  async ([, greeting]) => {
    const scope = testScope();
    const socket = join(await tempDir(scope), 'upstream.sock');
    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: unixUri(socket) }],
      args: ['--wait-upstream', 'yes', '--retry-delay', '100ms'],
    });
    const { server, clients } = await impostor(scope, socket, greeting);
    const starting = agent.start();
    await new Promise<void>((resolve) => server.once('connection', () => resolve()));
    expect(await listens(agent.address)).toBe(false);
    await new Promise((resolve) => {
      server.close(resolve);
      for (const client of clients) client.destroy();
    });
    await nbdkit(scope, ['memory', '16M'], { at: { socket } });
    await starting;
    const guest = await ourClient(scope, agent.uri());
    expect(guest.sizeBytes).toBe(16 * MiB);
    await guest.close();
    expect((await agent.child.stop()).code).toBe(0);
  },
);

test('--wait-upstream: a signal while waiting is an orderly end', async () => {
  const scope = testScope();
  const socket = join(await tempDir(scope), 'upstream.sock');
  const child = start(scope, process.execPath, [
    ...[COMMANDS.repagent, 'run', '--group', 'vm1', '--upstream', unixUri(socket), '--wait-upstream', 'yes'],
    ...['--listen', unixUri(join(await tempDir(scope), 'agent.sock')), '--state', join(await tempDir(scope), 'state')],
  ]);
  await child.waitFor('the agent to wait', () => Promise.resolve(child.output.includes('upstream-awaited')));
  expect((await child.stop()).code).toBe(0);
});

test('--wait-upstream: SIGHUP while waiting opens the log anew by its name', async () => {
  const scope = testScope();
  const dir = await tempDir(scope);
  const log = join(dir, 'repagent.log');
  const child = start(scope, process.execPath, [
    ...[COMMANDS.repagent, 'run', '--group', 'vm1', '--upstream', unixUri(join(dir, 'upstream.sock'))],
    ...['--wait-upstream', 'yes', '--listen', unixUri(join(dir, 'agent.sock')), '--state', join(dir, 'state')],
    ...['--log-file', log],
  ]);
  const said = async (word: string): Promise<boolean> => (await readFile(log, 'utf8').catch(() => '')).includes(word);
  await child.waitFor('the agent to wait', async () => await said('upstream-awaited'));
  await rename(log, `${log}.1`);
  child.signal('SIGHUP');
  await child.waitFor('the new log', () => existsSync(log));
  expect((await child.stop()).code).toBe(0);
  expect(await said('stopped')).toBe(true);
});

test('an upstream that comes back smaller is refused, and status says so', async () => {
  const scope = testScope();
  const upstream = await nbdkit(scope, ['memory', '16M']);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: upstream.uri }], args: RETRY });
  await agent.start();
  const guest = await ourClient(scope, agent.uri());
  await upstream.child.killHard();
  const other = await nbdkit(scope, ['memory', '8M'], { at: upstream.address });
  const { upstream: told } = await agent.waitFor('the refusal', (status) => status.upstream[0]?.state === 'refused');
  expect(told[0]?.reason).toMatch(/8388608.*16777216/);
  const reading = readBytes(guest, 0, 4096);
  await other.child.killHard();
  await nbdkit(scope, ['memory', '16M'], { at: upstream.address });
  expect((await reading).equals(Buffer.alloc(4096))).toBe(true);
  await guest.close();
  expect((await agent.child.stop()).code).toBe(0);
});

test('a socket that systemd passes is taken in the place of --listen', async () => {
  const scope = testScope();
  const upstream = await nbdkit(scope, ['memory', '16M']);
  const dir = await tempDir(scope);
  const socket = join(dir, 'passed.sock');
  const script = [
    'import os, socket, sys',
    's = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(16)',
    'os.dup2(s.fileno(), 3); os.set_inheritable(3, True)',
    'os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))',
    'os.execv(sys.argv[2], sys.argv[2:])',
  ].join('\n');
  const child = start(scope, 'python3', [
    ...['-c', script, socket, process.execPath, COMMANDS.repagent, 'run', '--group', 'vm1'],
    ...['--upstream', upstream.uri, '--state', join(dir, 'state')],
  ]);
  await child.waitFor('the agent to be ready', () => Promise.resolve(child.output.includes('ready')));
  const guest = await ourClient(scope, unixUri(socket));
  await writeBytes(guest, 0, fill(3));
  expect((await readBytes(guest, 0, 4096)).equals(fill(3))).toBe(true);
  await guest.close();
  expect((await child.stop()).code).toBe(0);
});

test(
  '--multi-conn emulate over a server that forks for each connection, verified by fio',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const upstream = await nbdServer(scope, await sparseFile(scope, 32 * MiB));
    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: upstream.uri }],
      args: ['--multi-conn', 'emulate', '--connections', '3', '--track-dirty', 'connection'],
    });
    await agent.start();
    expect((await agent.status()).upstream[0]?.connections).toBe(3);
    const figures = await load(agent.uri(), {
      ...{
        pattern: 'randwrite',
        blockBytes: 65536,
        depth: 16,
        sizeBytes: 32 * MiB,
        verify: true,
        extra: ['--fsync=32'],
      },
    });
    expect(figures.errors).toBe(0);
  },
);

test('--read-cache: a sequential reader gets what is there, also after a write', async () => {
  const scope = testScope();
  const upstream = await nbdkit(scope, ['memory', '16M']);
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: upstream.uri }],
    args: ['--read-cache', '64KiB'],
  });
  await agent.start();
  const [reader, writer] = [await ourClient(scope, agent.uri()), await ourClient(scope, agent.uri())];
  for (let at = 0; at < 64; at += 1) {
    await writeBytes(writer, (at + 1) * 4096, fill(at + 1));
    const seen = await readBytes(reader, at * 4096, 4096);
    expect(seen.equals(at === 0 ? Buffer.alloc(4096) : fill(at))).toBe(true);
  }
});
