import { type ExportDirectory, memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

it('nbdinfo --list tells every export with its description and releases each', async () => {
  let open = 0;
  const directory: ExportDirectory = {
    list: () => [
      { name: 'vm1/disk0', description: 'the first disk' },
      { name: 'vm1/disk0@-15m!x', description: 'with ünusual letters' },
    ],
    open(name) {
      open++;
      return Promise.resolve({
        device: memoryDevice(1024 * 1024),
        name,
        description: `opened as ${name}`,
        release: () => {
          open--;
        },
      });
    },
  };
  const { uri } = await serveNbd(testScope(), directory);
  const info = JSON.parse(await must('nbdinfo', ['--list', '--json', uri()])) as {
    exports: readonly { 'export-name': string; description: string }[];
  };
  expect(info.exports.map((one) => [one['export-name'], one.description])).toEqual([
    ['vm1/disk0', 'the first disk'],
    ['vm1/disk0@-15m!x', 'with ünusual letters'],
  ]);
  await expect.poll(() => open).toBe(0);
});
