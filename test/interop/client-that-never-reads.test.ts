// BOUND: a client that asks and does not read its answers is not read from; it gets all of them once it reads.
import { connect } from 'node:net';
import { expect, it } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { memoryOf } from '../kit/process-memory.js';
import { must } from '../kit/process.js';
import { OPENED_BYTES, OPENING, request, SIMPLE_REPLY_BYTES } from '../kit/raw-nbd.js';
import { AgentPlace } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const MIB = 1024 * 1024;
const READS = 1000;

it('a client that asks for 1,000 MiB and reads none of it costs a bounded amount', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, 64 * MIB);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: `file:${file}` }] });
  await agent.start();
  const before = (await memoryOf(agent.child.pid)).residentBytes;
  const socket = connect(agent.address.socket);
  scope.defer('a client', async () => {
    socket.destroy();
    await Promise.resolve();
  });
  socket.pause();
  socket.write(OPENING);
  for (let cookie = 0; cookie < READS; cookie++) {
    socket.write(request('read', MIB, { cookie, offset: (cookie % 64) * MIB }));
  }
  // Everything has been asked for, and another client is served meanwhile.
  await waitUntil('the requests to leave', () => socket.writableLength === 0 || socket.bytesWritten > 20_000);
  for (let round = 0; round < 5; round++) await must('nbdinfo', ['--size', agent.uri()]);
  await must('qemu-io', ['-f', 'raw', '-c', 'read 0 32M', agent.uri()]);
  // 64 MiB in flight, what of them waits for the socket, and Node's own.
  expect(Math.round(((await memoryOf(agent.child.pid)).residentBytes - before) / MIB)).toBeLessThan(256);

  let bytes = 0;
  const wanted = OPENED_BYTES + READS * (SIMPLE_REPLY_BYTES + MIB);
  const all = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      if (bytes === wanted) resolve();
    });
  });
  socket.resume();
  await all;
  expect(bytes).toBe(wanted);
});
