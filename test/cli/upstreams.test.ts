// An upstream that cannot be protected is said to be so at start; a size that changed is refused.
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { unixUri } from '../kit/addresses.js';
import { sparseFile } from '../kit/peers.js';
import { AgentPlace, startSystem } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test.for<readonly [what: string, size: number | null, said: RegExp]>([
  ['that is missing', null, /disk\.raw/],
  ['that is empty', 0, /disk\.raw.*(empty|no bytes)/s],
  ['whose size is not a multiple of 512', 1000, /1000.*512|512.*1000/s],
])('a file upstream %s is refused, saying so', async ([, size, said]) => {
  const scope = testScope();
  const file = join(await tempDir(scope), 'disk.raw');
  if (size !== null) {
    await writeFile(file, '');
    await truncate(file, size);
  }
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: `file:${file}` }],
    args: ['--retries', '0'],
  });
  await expect(agent.start()).rejects.toThrow(said);
  expect(agent.child.exit?.code).toBeGreaterThan(0);
});

test('a server that is not there is refused once the retries are used up, naming it', async () => {
  const scope = testScope();
  const socket = join(await tempDir(scope), 'nobody.sock');
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: unixUri(socket) }],
    args: ['--retries', '1', '--retry-delay', '10ms'],
  });
  await expect(agent.start()).rejects.toThrow(/nobody\.sock/);
});

test(
  'a disk that shrank while the agent was away is refused; with its old size it goes on',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const file = await sparseFile(scope, 16 * MiB);
    const { agent } = await startSystem(scope, `file:${file}`);
    expect((await agent.child.stop()).code).toBe(0);
    await truncate(file, 8 * MiB);
    await expect(agent.start()).rejects.toThrow(new RegExp(`${8 * MiB}.*${16 * MiB}`, 's'));
    await truncate(file, 16 * MiB);
    await agent.start();
    await agent.waitUntilProtected();
  },
);
