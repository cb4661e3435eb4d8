import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

it('nbd-client -l lists our exports', async () => {
  const { address, faults } = await serveNbd(
    testScope(),
    { 'vm1/disk0': memoryDevice(512), 'vm1/disk1': memoryDevice(512) },
    { tcp: true },
  );
  if (address.kind !== 'tcp') throw new Error('unreachable: TCP was asked for');
  const said = await must('nbd-client', ['-l', address.host, String(address.port)]);
  expect(said).toContain('vm1/disk0');
  expect(said).toContain('vm1/disk1');
  expect(faults).toEqual([]);
});
