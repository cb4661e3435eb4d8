// FULL: a hub that has no file handle for the next part of its journal stops acknowledging, and goes on by itself when it has one.
import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { flushDevice, writeBytes } from '@rephub/nbd';
import { compareFiles, copyOf } from '../kit/contents.js';
import { expectSame } from '../kit/expectations.js';
import { ourClient } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

/** No further handle is given to this process: the limit is on their numbers. */
async function withoutHandles(pid: number): Promise<void> {
  const open = new Set((await readdir(`/proc/${pid}/fd`)).map(Number));
  let lowest = 0;
  while (open.has(lowest)) lowest += 1;
  await must('prlimit', ['--pid', String(pid), `--nofile=${lowest}:`]);
}

test('no file handles, and some again', { timeout: 240_000 }, async () => {
  const scope = testScope();
  const disk = await sparseFile(scope, 128 * MiB);
  const { hub, agent } = await startSystem(scope, `file:${disk}`);
  const { pid } = hub.child;
  const guest = await ourClient(scope, agent.uri());
  // More than a segment of the journal holds. It does not shrink to nothing, and it is not all the same.
  for (let at = 0; at < 100; at += 1) {
    // Again and again: a connection of somebody else's that ends gives one back.
    if (at % 4 === 0 && !hub.child.output.includes('journal-stalled')) await withoutHandles(pid);
    const bytes = Buffer.alloc(MiB);
    for (let word = 0; word < MiB; word += 4) bytes.writeUInt32LE(Math.imul(at * MiB + word, 0x9e37_79b1) >>> 0, word);
    await writeBytes(guest, at * MiB, bytes);
  }
  await flushDevice(guest);
  await guest.close();
  await hub.child.waitForOutput(/journal-stalled .*EMFILE/, 30_000);
  await must('prlimit', ['--pid', String(pid), '--nofile=1024:']);
  await hub.child.waitForOutput(/journal-goes-on/, 60_000);
  await agent.waitUntilProtected();
  expect(hub.child.pid).toBe(pid);
  await hub.waitFor('vm1', 'protected', ({ state }) => state === 'protected');
  expectSame(await compareFiles(disk, await copyOf(scope, hub.uri('vm1', 'disk0'))));
});
