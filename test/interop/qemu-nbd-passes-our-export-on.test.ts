import { blockStatus, flushDevice, memoryDevice, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { qemuNbd } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it("QEMU between our client and our server: each request arrives as what it was, QEMU's own among them", async () => {
  const scope = testScope();
  const device = memoryDevice(32 * MIB);
  const { uri, faults } = await serveNbd(scope, { disk: device });
  const between = await qemuNbd(scope, uri('disk'), { exportName: 'again' });
  const client = await ourClient(scope, between.uri);
  const bytes = Buffer.from(Array.from({ length: 3 * MIB }, (_, index) => (index * 13) % 251));
  await writeBytes(client, 4 * MIB + 512, bytes, true);
  await zeroRange(client, 5 * MIB, 65_536);
  await trimRange(client, 6 * MIB, 65_536);
  await flushDevice(client);
  const expected = Buffer.concat([Buffer.alloc(512), bytes, Buffer.alloc(MIB - 512)]);
  expected.fill(0, MIB, MIB + 65_536);
  expected.fill(0, 2 * MIB, 2 * MIB + 65_536);
  expect((await readBytes(client, 4 * MIB, 4 * MIB)).equals(expected)).toBe(true);
  expect((await readBytes(device, 4 * MIB, 4 * MIB)).equals(expected)).toBe(true);
  const { runs } = await blockStatus(client, 0, 5 * MIB, 'base:allocation');
  expect(runs.slice(0, 4)).toEqual([4 * MIB, 3, MIB, 0]);
  expect(faults).toEqual([]);
});
