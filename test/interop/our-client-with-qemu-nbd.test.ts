import { blockStatus, flushDevice, listExports, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { qemuNbd, sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('our client writes, reads, zeroes, trims, flushes and maps an export of qemu-nbd', async () => {
  const scope = testScope();
  const file = await sparseFile(scope, 16 * MIB);
  const { uri } = await qemuNbd(scope, file, { exportName: 'vm1/disk0' });
  const client = await ourClient(scope, uri);
  expect(client).toMatchObject({ sizeBytes: 16 * MIB, exportName: 'vm1/disk0', limits: { maximumBytes: 32 * MIB } });
  expect(client.abilities).toMatchObject({ readOnly: false, flush: true, fua: true, trim: true, writeZeroes: true });
  const bytes = Buffer.from(Array.from({ length: 5 * MIB }, (_, index) => (index * 7) % 253));
  await writeBytes(client, MIB + 1, bytes, true);
  expect((await readBytes(client, MIB + 1, bytes.length)).equals(bytes)).toBe(true);
  await zeroRange(client, 2 * MIB, MIB);
  await trimRange(client, 8 * MIB, MIB);
  await flushDevice(client);
  expect((await readBytes(client, 2 * MIB, MIB)).equals(Buffer.alloc(MIB))).toBe(true);
  const { runs } = await blockStatus(client, 2 * MIB, MIB, 'base:allocation');
  expect((runs[1] ?? 0) & 2).toBe(2);
  await client.close();
  const said = await must('qemu-io', ['-f', 'raw', '-c', `read -P 0 ${2 * MIB} ${MIB}`, '-c', 'read -P 0 0 1M', file]);
  expect(said).not.toMatch(/verification failed/);
});

it('our client lists the exports of qemu-nbd', async () => {
  const scope = testScope();
  const { uri } = await qemuNbd(scope, await sparseFile(scope, MIB), { exportName: 'vm1/disk0' });
  expect((await listExports(nodePlatform(), uri)).map(({ name }) => name)).toEqual(['vm1/disk0']);
});

it('an export that qemu-nbd does not have is said to be unknown', async () => {
  const scope = testScope();
  const { uri } = await qemuNbd(scope, await sparseFile(scope, MIB), { exportName: 'disk' });
  await expect(ourClient(scope, uri.replace('disk?', 'other?'))).rejects.toMatchObject({ code: 'export-unknown' });
});
