// A bug of ours that nobody has caught ends the hub, with a word and exit code 1; what was acknowledged is there (promise DURABLE).
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { COMMANDS } from '../kit/commands.js';
import { compareFiles, copyOf } from '../kit/contents.js';
import { expectSame } from '../kit/expectations.js';
import { startLoad } from '../kit/load.js';
import { sparseFile } from '../kit/peers.js';
import { start } from '../kit/process.js';
import { startSystem } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test.for<readonly [what: string, planted: string]>([
  ['thrown where nobody catches it', "throw new Error('planted');"],
  ['of a promise that nobody awaits', "void Promise.reject(new Error('planted'));"],
])('%s', { timeout: 180_000 }, async ([, planted]) => {
  const scope = testScope();
  const directory = await tempDir(scope);
  const file = join(directory, 'planted.cjs');
  await writeFile(file, `process.on('SIGUSR2', () => { ${planted} });\n`);
  const disk = await sparseFile(scope, 64 * MiB);
  const logFile = join(directory, 'log');
  const { hub, agent } = await startSystem(scope, `file:${disk}`, {
    agent: { args: ['--mode', 'sync'] },
    hub: { nodeArgs: ['--require', file], args: ['--log-file', logFile, '--log-format', 'json'] },
  });
  const before = await agent.status();
  const load = { depth: 16, sizeBytes: 16 * MiB, ratePerSecond: 500, verify: true };
  const running = await startLoad(scope, agent.uri(), load);
  await hub.moreRecords('vm1', 200);
  hub.child.signal('SIGUSR2');
  // As after any exit that was not asked for, systemd starts it again.
  expect(await hub.child.waitForExit()).toEqual({ code: 1, signal: null });
  const lines = (await readFile(logFile, 'utf8')).trim().split('\n');
  const bugs = lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ event }) => event === 'bug');
  expect(bugs).toEqual([
    expect.objectContaining({
      level: 'error',
      message: 'planted',
      fault: expect.stringContaining('planted.cjs') as string,
    }),
  ]);
  await hub.start();
  expect((await running.finished()).errors).toBe(0);
  const after = await agent.waitUntilProtected();
  // All that the agent was told to be durable is there, or it would have all compared.
  expect(after.lastResync).toEqual(before.lastResync);
  expectSame(await compareFiles(disk, await copyOf(scope, hub.uri('vm1', 'disk0'))));
  const events = start(scope, process.execPath, [COMMANDS.rephub, 'events', '--http', hub.http]);
  await events.waitForExit();
  expect(events.output).toMatch(/\bbug\b.*planted/);
  expect(events.output).toMatch(/hub-started.*ended by a bug of ours at/);
});
