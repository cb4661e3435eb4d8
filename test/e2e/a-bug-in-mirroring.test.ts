// A bug of ours that nobody has caught stops mirroring, loudly; the guest goes on (promise FAIL-OPEN).
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { flushDevice, readBytes, writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { compareFiles, copyOf } from '../kit/contents.js';
import { expectSame } from '../kit/expectations.js';
import { ourClient } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { startSystem } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test.for<readonly [what: string, planted: string]>([
  ['thrown where nobody catches it', "throw new Error('planted');"],
  ['of a promise that nobody awaits', "void Promise.reject(new Error('planted'));"],
])('%s', { timeout: 120_000 }, async ([, planted]) => {
  const scope = testScope();
  const file = join(await tempDir(scope), 'planted.cjs');
  await writeFile(file, `process.on('SIGUSR2', () => { ${planted} });\n`);
  const disk = await sparseFile(scope, 16 * MiB);
  const { hub, agent } = await startSystem(scope, `file:${disk}`, { agent: { nodeArgs: ['--require', file] } });
  const guest = await ourClient(scope, agent.uri());
  await writeBytes(guest, 0, Buffer.alloc(MiB, 1));
  agent.child.signal('SIGUSR2');
  const told = await agent.waitFor('mirroring to stop', ({ reason }) => reason.includes('mirroring has stopped'));
  expect(told).toMatchObject({ state: 'degraded', reason: 'mirroring has stopped: planted' });
  await agent.child.waitForOutput(/ bug .*planted/);
  await writeBytes(guest, MiB, Buffer.alloc(MiB, 2));
  await flushDevice(guest);
  expect((await readBytes(guest, MiB, MiB)).equals(Buffer.alloc(MiB, 2))).toBe(true);
  await guest.close();
  await agent.child.stop();
  await agent.start();
  await agent.waitUntilProtected();
  expectSame(await compareFiles(disk, await copyOf(scope, hub.uri('vm1', 'disk0'))));
});
