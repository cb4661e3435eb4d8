import { listExports, readBytes, writeBytes, DeviceError, NbdError } from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdServer, nbdkit, sparseFile } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('an nbd-server that does not tell its exports refuses in words', async () => {
  const scope = testScope();
  const { uri } = await nbdServer(scope, await sparseFile(scope, MIB));
  await expect(listExports(nodePlatform(), uri)).rejects.toMatchObject({ kind: 'config', code: 'list-refused' });
});

it('a read-only export of nbd-server is read, and not written', async () => {
  const scope = testScope();
  const { uri } = await nbdServer(scope, await sparseFile(scope, MIB), {
    settings: ['readonly = true', 'flush = true'],
  });
  const client = await ourClient(scope, uri);
  expect(client.abilities).toMatchObject({ readOnly: true, trim: false, writeZeroes: false });
  expect(await readBytes(client, 0, 512)).toEqual(Buffer.alloc(512));
  const error = await writeBytes(client, 0, Buffer.alloc(512)).catch((thrown: unknown) => thrown);
  expect(error instanceof DeviceError && error.nbdError).toBe(NbdError.Einval);
});

it('names and descriptions of an nbdkit with many exports arrive in order', async () => {
  const scope = testScope();
  const names = Array.from({ length: 300 }, (_, index) => `disk-${index}`);
  const list = `list_exports=printf 'INTERLEAVED\\n'; i=0; while [ $i -lt 300 ]; do printf 'disk-%d\\ndescription of %d\\n' $i $i; i=$((i+1)); done`;
  const { uri } = await nbdkit(scope, ['eval', 'get_size=echo 512', 'pread=head -c $3 /dev/zero', list]);
  const entries = await listExports(nodePlatform(), uri);
  expect(entries.map(({ name }) => name)).toEqual(names);
  expect(entries[299]?.description).toBe('description of 299');
});
