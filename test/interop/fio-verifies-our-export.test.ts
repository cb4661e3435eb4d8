import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { load } from '../kit/load.js';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it.each([
  ['memory', 4096, 32],
  ['memory', 131_072, 8],
  ['file', 4096, 32],
  ['file', 131_072, 8],
] as const)(
  'fio reads back what it wrote: %s device, blocks of %i bytes, depth %i',
  async (kind, blockBytes, depth) => {
    const scope = testScope();
    const device =
      kind === 'memory' ? memoryDevice(64 * MIB) : await fileDevice(scope, await sparseFile(scope, 64 * MIB));
    const { uri, faults } = await serveNbd(scope, { disk: device });
    const figures = await load(uri(), { blockBytes, depth, sizeBytes: 64 * MIB, verify: true });
    expect(figures.errors).toBe(0);
    expect(figures.writtenBytes).toBe(64 * MIB);
    expect(faults).toEqual([]);
  },
);
