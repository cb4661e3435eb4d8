import { flushDevice, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

it.each([
  ['no structured replies', ['--no-sr']],
  ['no fixed newstyle', ['--mask-handshake=0']],
  ['124 zeroes after EXPORT_NAME', ['--mask-handshake=1']],
])('our client gets along with a server that has %s', async (_, args) => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, [...args, 'memory', '1M']);
  const client = await ourClient(scope, uri);
  expect(client.sizeBytes).toBe(1024 * 1024);
  await writeBytes(client, 1000, Buffer.alloc(5000, 7), true);
  await zeroRange(client, 2000, 100);
  await trimRange(client, 3000, 100);
  await flushDevice(client);
  const expected = Buffer.alloc(5000, 7).fill(0, 1000, 1100).fill(0, 2000, 2100);
  expect(await readBytes(client, 1000, 5000)).toEqual(expected);
});

it('our client says of an oldstyle server that it is one', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['--oldstyle', 'memory', '1M']);
  await expect(ourClient(scope, uri)).rejects.toMatchObject({ kind: 'protocol', code: 'oldstyle-server' });
});

it('our client says of a server that insists on TLS that it does', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['--tls=require', '--tls-psk=/dev/null', 'memory', '1M']);
  await expect(ourClient(scope, uri)).rejects.toMatchObject({ kind: 'config', code: 'tls-required' });
});
