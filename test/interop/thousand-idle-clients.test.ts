// BOUND: 1,000 clients that are connected and idle cost the agent less than 64 MiB.
import { connect, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { sparseFile } from '../kit/peers.js';
import { memoryOf } from '../kit/process-memory.js';
import { OPENED_BYTES, OPENING, request, SIMPLE_REPLY_BYTES } from '../kit/raw-nbd.js';
import { AgentPlace } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;
const CLIENTS = 1000;
const READ_BYTES = 4096;

/** What the server answers to this, after the opening, is all that is ever said. */
const READ = request('read', READ_BYTES);
const ANSWER_BYTES = OPENED_BYTES + SIMPLE_REPLY_BYTES + READ_BYTES;

/** A client that has negotiated, has read once, and says nothing more. */
async function idleClient(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.write(OPENING);
  socket.write(READ);
  let bytes = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      if (bytes >= ANSWER_BYTES) resolve();
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`closed after ${bytes} of ${ANSWER_BYTES} bytes`)));
  });
  return socket;
}

async function idleClients(path: string, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const some = Math.min(100, count - sockets.length);
    sockets.push(...(await Promise.all(Array.from({ length: some }, async () => await idleClient(path)))));
  }
  return sockets;
}

it('1,000 idle clients cost the agent less than 64 MiB', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const file = await sparseFile(scope, 64 * MIB);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: `file:${file}` }] });
  await agent.start();
  const sockets: Socket[] = [];
  scope.defer('idle clients', async () => {
    for (const socket of sockets) socket.destroy();
    await Promise.resolve();
  });
  sockets.push(...(await idleClients(agent.address.socket, 10)));
  const before = (await memoryOf(agent.child.pid)).residentBytes;
  sockets.push(...(await idleClients(agent.address.socket, CLIENTS)));
  const { residentBytes } = await memoryOf(agent.child.pid);
  expect(Math.round((residentBytes - before) / MIB)).toBeLessThan(64);
  // They are served all the same.
  const last = sockets.at(-1);
  const answered = new Promise((resolve) => last?.once('data', resolve));
  last?.write(READ);
  await answered;
});
