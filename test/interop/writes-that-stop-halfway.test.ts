// BOUND: clients that stop in the middle of a large write cost the agent one bounded amount, and hold nobody up for good.
import { connect, type Socket } from 'node:net';
import { connectNbd, readBytes, writeBytes } from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { expect, it } from 'vitest';
import { sparseFile } from '../kit/peers.js';
import { memoryOf } from '../kit/process-memory.js';
import { OPENING, request } from '../kit/raw-nbd.js';
import { AgentPlace } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;
const CLIENTS = 40;
const WRITE_BYTES = 32 * MIB;
const SENT_BYTES = 16 * MIB;

it(
  '40 clients that send half of 32 MiB cost the agent less than 160 MiB, and others are served',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const file = await sparseFile(scope, 64 * MIB);
    const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: `file:${file}` }] });
    await agent.start();
    const sockets: Socket[] = [];
    scope.defer('clients', async () => {
      for (const socket of sockets) socket.destroy();
      await Promise.resolve();
    });
    const client = await connectNbd(nodePlatform(), `nbd+unix:///disk0?socket=${agent.address.socket}`);
    await writeBytes(client, 0, Buffer.alloc(WRITE_BYTES, 1));
    const before = (await memoryOf(agent.child.pid)).peakBytes;
    const half = Buffer.alloc(SENT_BYTES, 2);
    for (let index = 0; index < CLIENTS; index += 1) {
      const socket = connect(agent.address.socket);
      socket.on('error', () => undefined);
      socket.write(Buffer.concat([OPENING, request('write', WRITE_BYTES)]));
      socket.write(half);
      socket.resume();
      sockets.push(socket);
    }
    // All of them are in transmission: nothing that they have not been let in for is read from here on.
    await expect.poll(async () => (await agent.status()).clients.length, { timeout: 30_000 }).toBe(CLIENTS + 1);
    await writeBytes(client, 0, Buffer.alloc(64 * 1024, 3));
    expect((await readBytes(client, 64 * 1024 - 1, 1))[0]).toBe(3);
    // A large one waits for its turn in the line: each of those before it is ended after 5 s of silence. When they leave it comes at once.
    let isWritten = false;
    const writing = writeBytes(client, 0, Buffer.alloc(WRITE_BYTES, 4)).then(() => (isWritten = true));
    const ended = (): number => sockets.filter(({ destroyed }) => destroyed).length;
    await expect.poll(() => isWritten || ended() > 1, { timeout: 60_000 }).toBe(true);
    expect(Math.round(((await memoryOf(agent.child.pid)).peakBytes - before) / MIB)).toBeLessThan(160);
    expect(ended()).toBeGreaterThan(1);
    for (const socket of sockets) socket.destroy();
    await writing;
    expect((await readBytes(client, 2 * MIB - 1, 1))[0]).toBe(4);
    await client.close();
  },
);
