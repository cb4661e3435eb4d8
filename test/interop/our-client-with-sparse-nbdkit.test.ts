import { type BlockDevice, blockStatus, readBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

async function allRuns(device: BlockDevice): Promise<{ offset: number; length: number; flags: number }[]> {
  const runs: { offset: number; length: number; flags: number }[] = [];
  for (let offset = 0; offset < device.sizeBytes;) {
    const answer = await blockStatus(device, offset, device.sizeBytes - offset, 'base:allocation');
    for (let index = 0; index < answer.runs.length; index += 2) {
      const length = answer.runs[index] ?? 0;
      runs.push({ offset, length, flags: answer.runs[index + 1] ?? 0 });
      offset += length;
    }
  }
  return runs;
}

it('what nbdkit says to be zero in a random sparse disk of many extents reads as zero', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['sparse-random', '64M', 'seed=1', 'percent=20', 'runlength=65536']);
  const client = await ourClient(scope, uri);
  const runs = await allRuns(client);
  expect(runs.reduce((sum, { length }) => sum + length, 0)).toBe(64 * MIB);
  expect(runs.length).toBeGreaterThan(50);
  for (const { offset, length, flags } of runs) {
    if ((flags & 2) === 0) continue;
    const step = Math.min(length, MIB);
    expect((await readBytes(client, offset, step)).equals(Buffer.alloc(step))).toBe(true);
  }
});
