// FRAME: garbage on any port ends that connection, is counted, and disturbs nobody else.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { type Address } from '../kit/addresses.js';
import { sparseFile } from '../kit/peers.js';
import { type HubPlace, startSystem } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { testScope } from '../kit/test-scope.js';
import { within } from '../kit/wait.js';

const MiB = 1 << 20;

const magic = Buffer.from('NBDMAGICIHAVEOPT');
const garbage: Readonly<Record<string, Buffer>> = {
  'random bytes': Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7919 + 13) & 0xff)),
  ones: Buffer.alloc(64 * 1024, 0xff),
  zeroes: Buffer.alloc(64 * 1024),
  'an HTTP request': Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  'an HTTP request whose path is no URL': Buffer.from('GET // HTTP/1.1\r\nHost: x\r\n\r\n'),
  'client flags and a huge option': Buffer.concat([
    Buffer.from([0, 0, 0, 3]),
    magic.subarray(8),
    Buffer.from([0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]),
    Buffer.alloc(1024),
  ]),
};

async function send(scope: Scope, address: Address, bytes: Buffer): Promise<void> {
  const socket: Socket = 'socket' in address ? connect(address.socket) : connect(address.port, '127.0.0.1');
  scope.defer('garbage sender', async () => {
    socket.destroy();
    await Promise.resolve();
  });
  socket.on('error', () => undefined);
  socket.resume();
  const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
  socket.end(bytes);
  await within('the connection to be ended', 15_000, closed);
}

const faults = async (hub: HubPlace): Promise<number> => {
  const metrics = await (await fetch(`http://${hub.http}/metrics`)).text();
  const lines = metrics.split('\n').filter((line) => /fault|refus|bad|error/i.test(line) && !line.startsWith('#'));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
};

test.for(Object.keys(garbage))('%s on every port', { timeout: 60_000 }, async (kind) => {
  const scope = testScope();
  const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`);
  const before = await agent.status();
  const faultsBefore = await faults(hub);
  const bytes = garbage[kind]!;
  for (const address of [
    { port: hub.linkPort },
    { port: hub.nbdPort },
    { socket: hub.nbdSocket },
    { port: hub.httpPort },
    agent.address,
    { port: agent.httpPort },
    { socket: agent.controlSocket },
  ]) {
    await send(scope, address, bytes);
  }
  expect([hub.child.exit, agent.child.exit]).toEqual([undefined, undefined]);
  await agent.waitUntilProtected();
  const after = await agent.status();
  expect(after.generation).toBe(before.generation);
  expect(after.lastResync).toEqual(before.lastResync);
  expect(await faults(hub)).toBeGreaterThan(faultsBefore);
  expect(after.counters['clientFaults']).toBeGreaterThan(before.counters['clientFaults'] ?? 0);
});

test('a path that is no URL is answered: 400 by the agent, 404 by the hub', async () => {
  const scope = testScope();
  const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`);
  expect(await answerTo(scope, { port: agent.httpPort }, '//')).toBe(400);
  expect(await answerTo(scope, { socket: agent.controlSocket }, '//')).toBe(400);
  expect(await answerTo(scope, { port: hub.httpPort }, '//')).toBe(404);
  expect((await agent.status()).state).toBe('protected');
});

async function answerTo(scope: Scope, address: Address, path: string): Promise<number | undefined> {
  const where = 'socket' in address ? { socketPath: address.socket } : { host: '127.0.0.1', port: address.port };
  const asked = request({ ...where, path, agent: false });
  scope.defer('request', async () => {
    asked.destroy();
    await Promise.resolve();
  });
  asked.end();
  const [response] = (await within('an answer', 15_000, once(asked, 'response'))) as [IncomingMessage];
  response.resume();
  return response.statusCode;
}
