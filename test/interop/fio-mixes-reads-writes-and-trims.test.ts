import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { load } from '../kit/load.js';
import { serveNbd } from '../kit/nbd-serve.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it.each(['randrw', 'randwrite'] as const)(
  'fio with %s of unequal sizes, trims and syncs between them, several jobs on several connections',
  async (pattern) => {
    const { uri, faults, server } = await serveNbd(testScope(), { disk: memoryDevice(64 * MIB) });
    const figures = await load(uri(), {
      pattern,
      depth: 16,
      sizeBytes: 16 * MIB,
      extra: ['--numjobs=4', '--offset_increment=16m', '--bsrange=512-65536', '--fsync=32'],
    });
    expect(figures.errors).toBe(0);
    await expect.poll(() => server.clients()).toEqual([]);
    expect(faults).toEqual([]);
  },
);

it('fio trims at random', async () => {
  const { uri, faults } = await serveNbd(testScope(), { disk: memoryDevice(64 * MIB) });
  const figures = await load(uri(), {
    depth: 16,
    sizeBytes: 16 * MIB,
    extra: ['--rw=randtrim'],
  });
  expect(figures.errors).toBe(0);
  expect(faults).toEqual([]);
});
