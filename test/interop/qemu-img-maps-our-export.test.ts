import { writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('qemu-img map and info see size, holes and data of our export', async () => {
  const scope = testScope();
  const device = await fileDevice(scope, await sparseFile(scope, 8 * MIB));
  await writeBytes(device, 2 * MIB, Buffer.alloc(MIB, 1), true);
  const { uri } = await serveNbd(scope, { disk: device });
  const info = JSON.parse(await must('qemu-img', ['info', '--output=json', '-f', 'raw', uri('disk')])) as object;
  expect(info).toMatchObject({ 'virtual-size': 8 * MIB });
  const map = JSON.parse(await must('qemu-img', ['map', '--output=json', '-f', 'raw', uri('disk')])) as {
    start: number;
    length: number;
    zero: boolean;
    data: boolean;
  }[];
  expect(map.map(({ start, length, zero, data }) => ({ start, length, zero, data }))).toEqual([
    { start: 0, length: 2 * MIB, zero: true, data: false },
    { start: 2 * MIB, length: MIB, zero: false, data: true },
    { start: 3 * MIB, length: 5 * MIB, zero: true, data: false },
  ]);
});
