import { type ExportDirectory, memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('qemu-nbd --list shows name, description, flags, block sizes and contexts of every export', async () => {
  const device = memoryDevice(8 * MIB, {
    limits: { minimumBytes: 512, preferredBytes: 65_536, maximumBytes: MIB },
    abilities: { contexts: ['base:allocation', 'rephub:dirty'] },
  });
  const directory: ExportDirectory = {
    list: () => [
      { name: 'vm1/disk0', description: 'the first disk' },
      { name: 'vm1/disk1', description: '' },
    ],
    open: (name) => Promise.resolve({ device, name, description: 'the first disk', release: () => undefined }),
  };
  const { address, faults } = await serveNbd(testScope(), directory);
  if (address.kind !== 'unix') throw new Error('unreachable: a Unix socket is the default');
  const said = await must('qemu-nbd', ['--list', '-k', address.path]);
  expect(said).toContain('exports available: 2');
  for (const part of [
    "export: 'vm1/disk0'",
    'description: the first disk',
    "export: 'vm1/disk1'",
    `size:  ${8 * MIB}`,
    'flush fua trim zeroes df multi cache fast-zero',
    'min block: 512',
    'opt block: 65536',
    `max block: ${MIB}`,
    'available meta contexts: 2',
    'base:allocation',
    'rephub:dirty',
  ]) {
    expect(said).toContain(part);
  }
  expect(faults).toEqual([]);
});
