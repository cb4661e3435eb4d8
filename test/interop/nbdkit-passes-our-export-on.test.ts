import {
  blockStatus,
  DeviceError,
  flushDevice,
  memoryDevice,
  NbdError,
  readBytes,
  trimRange,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('libnbd in nbdkit between our client and our server: contents, holes and errors arrive as they are', async () => {
  const scope = testScope();
  const device = memoryDevice(32 * MIB);
  const failing = {
    sizeBytes: device.sizeBytes,
    abilities: device.abilities,
    limits: device.limits,
    close: () => device.close(),
    submit: (request: Parameters<typeof device.submit>[0]) => {
      if (request.offset >= 30 * MIB) request.complete(NbdError.Enospc);
      else device.submit(request);
    },
  };
  const { uri, faults } = await serveNbd(scope, { disk: failing });
  const between = await nbdkit(scope, ['nbd', `uri=${uri('disk')}`]);
  const client = await ourClient(scope, between.uri);
  expect(client.abilities).toMatchObject({
    flush: true,
    fua: true,
    trim: true,
    writeZeroes: true,
    fastZero: true,
    multiConn: true,
  });
  const bytes = Buffer.from(Array.from({ length: MIB }, (_, index) => (index * 13) % 251));
  await writeBytes(client, 4 * MIB + 77, bytes, true);
  await zeroRange(client, 10 * MIB, MIB);
  await trimRange(client, 11 * MIB, MIB);
  await flushDevice(client);
  expect((await readBytes(client, 4 * MIB + 77, MIB)).equals(bytes)).toBe(true);
  expect((await blockStatus(client, 0, 4 * MIB, 'base:allocation')).runs).toEqual([4 * MIB, 3]);
  const error = await writeBytes(client, 30 * MIB, bytes).catch((thrown: unknown) => thrown);
  expect(error instanceof DeviceError && error.nbdError).toBe(NbdError.Enospc);
  expect((await readBytes(client, 4 * MIB + 77, 10)).equals(bytes.subarray(0, 10))).toBe(true);
  expect(faults).toEqual([]);
});
