// GUEST, FLUSH: what upstream answers with an error, as the retry filter handles it.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DeviceError, flushDevice, NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { AgentPlace } from '../kit/rephub-system.js';
import type { Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const RETRY = ['--retry-delay', '100ms', '--retry-exponential', 'no'];

/** An agent over an upstream that fails while a file is there. */
async function failing(scope: Scope, error: string, args: readonly string[]) {
  const file = join(await tempDir(scope), 'fail');
  const upstream = await nbdkit(scope, [
    ...['--filter=error', 'memory', '16M', `error=${error}`, 'error-rate=100%', `error-file=${file}`],
  ]);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: upstream.uri }], args });
  await agent.start();
  return {
    agent,
    guest: await ourClient(scope, agent.uri()),
    begin: async () => await writeFile(file, ''),
    end: async () => await rm(file),
  };
}

async function errorOf(work: Promise<unknown>): Promise<number> {
  return await work.then(
    () => 0,
    (error: unknown) => (error instanceof DeviceError ? error.nbdError : -1),
  );
}

test('an upstream that answers EIO for a while costs reads, writes and flushes only time', async () => {
  const scope = testScope();
  const { agent, guest, begin, end } = await failing(scope, 'EIO', [...RETRY, '--retries', 'forever']);
  await writeBytes(guest, 0, Buffer.alloc(4096, 1));
  // What is not flushed would be played again after each reopening, which cannot succeed while writes fail.
  await flushDevice(guest);
  await begin();
  const work = [
    writeBytes(guest, 8192, Buffer.alloc(4096, 2)),
    readBytes(guest, 0, 4096),
    flushDevice(guest),
    writeBytes(guest, 16384, Buffer.alloc(4096, 3), true),
  ];
  await agent.waitFor('connections to be opened anew', ({ upstream }) => (upstream[0]?.reconnects ?? 0) >= 2);
  await end();
  await Promise.all(work);
  expect((await readBytes(guest, 0, 4096)).equals(Buffer.alloc(4096, 1))).toBe(true);
  expect((await readBytes(guest, 8192, 4096)).equals(Buffer.alloc(4096, 2))).toBe(true);
  expect((await readBytes(guest, 16384, 4096)).equals(Buffer.alloc(4096, 3))).toBe(true);
});

test('EIO passes once the retries are used up, and with zero retries at once', async () => {
  const scope = testScope();
  for (const retries of ['2', '0']) {
    const { agent, guest, begin } = await failing(scope, 'EIO', [...RETRY, '--retries', retries]);
    await begin();
    expect(await errorOf(readBytes(guest, 0, 4096))).toBe(NbdError.Eio);
    expect((await agent.status()).upstream[0]?.reconnects).toBe(Number(retries));
  }
});

test('ENOSPC passes at once, whatever the retries', async () => {
  const scope = testScope();
  const { agent, guest, begin } = await failing(scope, 'ENOSPC', ['--retries', 'forever']);
  await begin();
  expect(await errorOf(writeBytes(guest, 0, Buffer.alloc(4096)))).toBe(NbdError.Enospc);
  expect((await agent.status()).upstream[0]?.reconnects).toBe(0);
});

test('--retry-readonly on-write-failure: after a failed write, reads go on and writes are refused', async () => {
  const scope = testScope();
  const { agent, guest, begin, end } = await failing(scope, 'EIO', [...RETRY, '--retry-readonly', 'on-write-failure']);
  await begin();
  const writing = errorOf(writeBytes(guest, 0, Buffer.alloc(4096)));
  await agent.waitFor('the write to have failed', ({ upstream }) => (upstream[0]?.reconnects ?? 0) >= 1);
  await end();
  await writing;
  expect(await errorOf(readBytes(guest, 0, 4096))).toBe(0);
  expect(await errorOf(writeBytes(guest, 4096, Buffer.alloc(4096)))).toBe(NbdError.Eperm);
  expect((await agent.status()).upstream[0]).toMatchObject({ up: true, state: 'read-only' });
});
