// SIZE: how large an export is for somebody who connects now, asked of other makers' servers by INFO, on a connection that
// never comes to requests; those that are there are not disturbed.
import { truncate } from 'node:fs/promises';
import { ConfigFault } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { exportSize, readBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit, nbdServer, qemuNbd, sparseFile } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('nbdkit file tells the size of this moment', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const disk = await sparseFile(scope, 16 * MiB);
  const { uri, child } = await nbdkit(scope, ['file', disk]);
  const client = await ourClient(scope, uri);
  const platform = nodePlatform();
  expect(await exportSize(platform, uri)).toBe(16 * MiB);
  await truncate(disk, 24 * MiB);
  expect(await exportSize(platform, uri)).toBe(24 * MiB);
  expect(client.sizeBytes).toBe(16 * MiB);
  expect((await readBytes(client, 0, 4096)).equals(Buffer.alloc(4096))).toBe(true);
  expect(child.output).not.toContain('error');
});

test('qemu-nbd tells the size that it began with', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { uri } = await qemuNbd(scope, await sparseFile(scope, 16 * MiB));
  const client = await ourClient(scope, uri);
  expect(await exportSize(nodePlatform(), uri)).toBe(16 * MiB);
  expect((await readBytes(client, 0, 4096)).length).toBe(4096);
});

test('nbd-server, which says 0 to those who only ask, is taken to tell nothing', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { uri } = await nbdServer(scope, await sparseFile(scope, 8 * MiB));
  const client = await ourClient(scope, uri);
  await expect(exportSize(nodePlatform(), uri)).rejects.toMatchObject({ code: 'info-refused' });
  expect((await readBytes(client, 0, 4096)).length).toBe(4096);
});

test('an export that is not there is refused by name', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { uri } = await qemuNbd(scope, await sparseFile(scope, MiB), { exportName: 'disk' });
  const asking = exportSize(nodePlatform(), uri.replace('/disk', '/other'));
  await expect(asking).rejects.toThrow(ConfigFault);
});
