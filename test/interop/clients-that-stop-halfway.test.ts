import { connect, type Socket } from 'node:net';
import { memoryDevice, readBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { CLIENT_FLAGS, OPENED_BYTES, OPENING, option, request, SIMPLE_REPLY_BYTES } from '../kit/raw-nbd.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

/** Flags, structured replies, LIST, INFO of the default export; GO is missing. */
const HAGGLING = Buffer.concat([CLIENT_FLAGS, option(8), option(3), option(6, Buffer.alloc(6))]);
const READ = request('read', 4096);

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
  const simple = Buffer.concat([OPENING, ...reads]);
  const byEnd = await answerTo(address.path, (socket) => socket.end(simple));
  const byLeave = await answerTo(address.path, (socket) =>
    socket.write(Buffer.concat([simple, request('disconnect', 0), READ])),
  );
  expect([byEnd.length, byLeave.length]).toEqual([1, 1].map(() => OPENED_BYTES + 100 * (SIMPLE_REPLY_BYTES + 4096)));
  await expect.poll(() => server.clients()).toEqual([]);
  expect(faults).toEqual([]);
});
