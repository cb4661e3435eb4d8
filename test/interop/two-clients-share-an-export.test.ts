import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';
import { readBytes } from '@rephub/nbd';

const MIB = 1024 * 1024;

it('what qemu-io writes over one connection our client reads over another at once', async () => {
  const scope = testScope();
  const { uri, server } = await serveNbd(scope, { disk: memoryDevice(MIB) });
  const ours = await ourClient(scope, uri());
  await must('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 1000 1000', uri()]);
  expect(await readBytes(ours, 1000, 1000)).toEqual(Buffer.alloc(1000, 0x5a));
  await expect.poll(() => server.clients().map(({ exportName }) => exportName)).toEqual(['disk']);
});
