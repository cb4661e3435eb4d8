import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandFlag, flushDevice, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

it("nbdkit's log filter shows every request of ours with its flags, and a disconnection in order", async () => {
  const scope = testScope();
  const logFile = join(await tempDir(scope), 'log');
  const { uri } = await nbdkit(scope, ['--filter=log', 'memory', '1M', `logfile=${logFile}`]);
  const client = await ourClient(scope, uri);
  await writeBytes(client, 512, Buffer.alloc(100, 1), true);
  await readBytes(client, 512, 100);
  await zeroRange(client, 4096, 4096, CommandFlag.NoHole);
  await zeroRange(client, 8192, 4096, CommandFlag.FastZero | CommandFlag.Fua);
  await trimRange(client, 16_384, 4096);
  await flushDevice(client);
  await client.close();
  await expect.poll(async () => await readFile(logFile, 'utf8')).toContain('Disconnect transactions=6');
  const log = await readFile(logFile, 'utf8');
  const lines = log.matchAll(/connection=\d+ (\w+) id=\d+ (.*)\.\.\./g);
  const asked = [...lines].map(([, command = '', what = '']) => `${command} ${what}`.trim());
  expect(asked).toEqual([
    'Write offset=0x200 count=0x64 fua=1',
    'Read offset=0x200 count=0x64',
    'Zero offset=0x1000 count=0x1000 trim=0 fua=0 fast=0',
    'Zero offset=0x2000 count=0x1000 trim=1 fua=1 fast=1',
    'Trim offset=0x4000 count=0x1000 fua=0',
    'Flush',
  ]);
});
