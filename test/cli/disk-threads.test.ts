// A daemon has more threads for its disks than libuv's four, unless it is told how many.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { COMMANDS } from '../kit/commands.js';
import { freePort } from '../kit/addresses.js';
import { sparseFile } from '../kit/peers.js';
import { start } from '../kit/process.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

async function hub(scope: Scope): Promise<readonly string[]> {
  const http = `127.0.0.1:${await freePort()}`;
  const sockets = await tempDir(scope);
  const listen = [
    '--listen',
    `unix://${join(sockets, 'agents')}`,
    '--nbd',
    `nbd+unix:///?socket=${join(sockets, 'nbd')}`,
  ];
  return [COMMANDS.rephub, 'serve', '--data', await tempDir(scope), '--http', http, ...listen];
}

async function agent(scope: Scope): Promise<readonly string[]> {
  const listen = `nbd+unix:///?socket=${join(await tempDir(scope), 'nbd')}`;
  const upstream = `file:${await sparseFile(scope, 1 << 20)}`;
  return [
    COMMANDS.repagent,
    'run',
    '--group',
    'vm1',
    '--upstream',
    upstream,
    '--listen',
    listen,
    '--state',
    await tempDir(scope),
  ];
}

for (const [name, wordsOf] of [
  ['rephub', hub],
  ['repagent', agent],
] as const) {
  test(`${name} serves many requests to disks at a time`, async () => {
    const scope = testScope();
    const threads = async (env: Record<string, string>): Promise<number> => {
      const child = start(scope, process.execPath, await wordsOf(scope), { env });
      await child.waitFor(`${name} to serve`, () => Promise.resolve(/ ready\b/.test(child.output)));
      return (await readdir(`/proc/${child.pid}/task`)).length;
    };
    const usual = await threads({});
    expect(usual).toBeGreaterThan(16);
    expect(usual - (await threads({ UV_THREADPOOL_SIZE: '4' }))).toBe(12);
  });
}
