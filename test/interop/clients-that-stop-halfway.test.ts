import { connect, type Socket } from 'node:net';
import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { testScope } from '../kit/test-scope.js';
import { readBytes } from '@rephub/nbd';

const MIB = 1024 * 1024;

function option(type: number, data = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.write('IHAVEOPT', 0, 'latin1');
  header.writeUInt32BE(type, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

/** Flags, structured replies, LIST, INFO of the default export; GO is missing. */
const HAGGLING = Buffer.concat([Buffer.from([0, 0, 0, 3]), option(8), option(3), option(6, Buffer.alloc(6))]);
const GO = option(7, Buffer.alloc(6));
const READ = Buffer.alloc(28);
READ.writeUInt32BE(0x25609513, 0);
READ.writeUInt32BE(4096, 24);
const DISC = Buffer.from(READ);
DISC.writeUInt16BE(2, 6);
DISC.writeUInt32BE(0, 24);

it('200 clients that stop after so many bytes of their negotiation are ended in time, the others served', async () => {
  const scope = testScope();
  const { uri, address, server, faults } = await serveNbd(
    scope,
    { disk: memoryDevice(MIB) },
    { limits: { negotiationMs: 400 } },
  );
  if (address.kind !== 'unix') throw new Error('unreachable: a Unix socket is the default');
  const stuck = Array.from({ length: 200 }, (_, index) => {
    const socket = connect(address.path);
    socket.write(HAGGLING.subarray(0, index % HAGGLING.length));
    socket.resume();
    return new Promise<void>((resolve, reject) => {
      socket.on('close', () => resolve());
      socket.on('error', reject);
    });
  });
  const client = await ourClient(scope, uri('disk'));
  await Promise.all(stuck);
  expect((await readBytes(client, 0, 512)).equals(Buffer.alloc(512))).toBe(true);
  await expect.poll(() => server.clients().length).toBe(1);
  expect(new Set(faults.map(({ code }) => code))).toEqual(new Set(['negotiation-timeout']));
});

/** All bytes up to the server's end. */
async function answerTo(path: string, say: (socket: Socket) => void): Promise<Buffer> {
  const socket = connect({ path, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  say(socket);
  await new Promise<void>((resolve, reject) => {
    socket.on('end', () => resolve());
    socket.on('error', reject);
  });
  socket.end();
  return Buffer.concat(chunks);
}

it('a client that says all it has in one breath and ends, or takes its leave, gets every answer and then the end', async () => {
  const scope = testScope();
  const { address, server, faults } = await serveNbd(scope, { disk: memoryDevice(MIB) });
  if (address.kind !== 'unix') throw new Error('unreachable: a Unix socket is the default');
  const reads = Array.from({ length: 100 }, () => READ);
  const simple = Buffer.concat([Buffer.from([0, 0, 0, 3]), GO, ...reads]);
  const negotiated = 18 + (20 + 12) + 20;
  const byEnd = await answerTo(address.path, (socket) => socket.end(simple));
  const byLeave = await answerTo(address.path, (socket) => socket.write(Buffer.concat([simple, DISC, READ])));
  expect([byEnd.length, byLeave.length]).toEqual([1, 1].map(() => negotiated + 100 * (16 + 4096)));
  await expect.poll(() => server.clients()).toEqual([]);
  expect(faults).toEqual([]);
});
