// BOUND: a client that asks and does not read its answers is not read from; it gets all of them once it reads.
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { expect, it } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { AgentPlace } from '../kit/rephub-system.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const MIB = 1024 * 1024;
const READS = 1000;
const NEGOTIATED_BYTES = 18 + (20 + 12) + 20;

/** Flags, then GO for the default export. */
const OPENING = Buffer.concat([
  Buffer.from([0, 0, 0, 3]),
  Buffer.from('IHAVEOPT'),
  Buffer.from([0, 0, 0, 7, 0, 0, 0, 6]),
  Buffer.alloc(6),
]);

async function residentBytes(pid: number): Promise<number> {
  const found = /VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) * 1024;
}

it('a client that asks for 1,000 MiB and reads none of it costs a bounded amount', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, 64 * MIB);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: `file:${file}` }] });
  await agent.start();
  const before = await residentBytes(agent.child.pid);
  const socket = connect(agent.address.socket);
  scope.defer('a client', async () => {
    socket.destroy();
    await Promise.resolve();
  });
  socket.pause();
  socket.write(OPENING);
  const request = Buffer.alloc(28);
  request.writeUInt32BE(0x25609513, 0);
  request.writeUInt32BE(MIB, 24);
  for (let cookie = 0; cookie < READS; cookie++) {
    request.writeUInt32BE(cookie, 12);
    request.writeUInt32BE((cookie % 64) * MIB, 20);
    socket.write(Buffer.from(request));
  }
  // Everything has been asked for, and another client is served meanwhile.
  await waitUntil('the requests to leave', () => socket.writableLength === 0 || socket.bytesWritten > 20_000);
  for (let round = 0; round < 5; round++) await must('nbdinfo', ['--size', agent.uri()]);
  await must('qemu-io', ['-f', 'raw', '-c', 'read 0 32M', agent.uri()]);
  // 64 MiB in flight, what of them waits for the socket, and Node's own.
  expect(Math.round(((await residentBytes(agent.child.pid)) - before) / MIB)).toBeLessThan(256);

  let bytes = 0;
  const wanted = NEGOTIATED_BYTES + READS * (16 + MIB);
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
