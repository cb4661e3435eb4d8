import { writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('nbdinfo --map shows the holes of a sparse file as they are on disk, coalesced', async () => {
  const scope = testScope();
  const device = await fileDevice(scope, await sparseFile(scope, 16 * MIB));
  await writeBytes(device, 4 * MIB, Buffer.alloc(MIB, 1));
  await writeBytes(device, 5 * MIB, Buffer.alloc(MIB, 2), true);
  const { uri } = await serveNbd(scope, { disk: device });
  const map = JSON.parse(await must('nbdinfo', ['--map', '--json', uri()])) as {
    offset: number;
    length: number;
    type: number;
  }[];
  expect(map.map(({ offset, length, type }) => [offset, length, type])).toEqual([
    [0, 4 * MIB, 3],
    [4 * MIB, 2 * MIB, 0],
    [6 * MIB, 10 * MIB, 3],
  ]);
});
