import { flushDevice, readBytes, trimRange, writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdServer, sparseFile } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it.each(['unix', 'tcp'] as const)(
  'our client works with nbd-server, the reference implementation, over %s',
  async (how) => {
    const scope = testScope();
    const { uri } = await nbdServer(scope, await sparseFile(scope, 8 * MIB), how === 'tcp' ? { at: 'tcp' } : {});
    const client = await ourClient(scope, uri);
    expect(client.sizeBytes).toBe(8 * MIB);
    expect(client.abilities).toMatchObject({ flush: true, fua: true, trim: true, readOnly: false });
    const bytes = Buffer.from(Array.from({ length: 3 * MIB }, (_, index) => (index * 11) % 255));
    await writeBytes(client, 4321, bytes, true);
    expect((await readBytes(client, 4321, bytes.length)).equals(bytes)).toBe(true);
    await trimRange(client, 5 * MIB, MIB);
    await flushDevice(client);
  },
);

it('an export that nbd-server does not have is said to be unknown', async () => {
  const scope = testScope();
  const { uri } = await nbdServer(scope, await sparseFile(scope, MIB));
  await expect(ourClient(scope, uri.replace('disk?', 'other?'))).rejects.toMatchObject({ code: 'export-unknown' });
});
