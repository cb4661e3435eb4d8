import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { compareFiles } from '../kit/contents.js';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('nbdcopy of a sparse export of 256 MiB takes no more room than its data', async () => {
  const scope = testScope();
  const path = await sparseFile(scope, 256 * MIB);
  const device = await fileDevice(scope, path);
  for (let index = 0; index < 8; index++)
    await writeBytes(device, index * 32 * MIB + 4096, Buffer.alloc(MIB, index + 1));
  const { uri, faults } = await serveNbd(scope, { disk: device });
  const copy = join(await tempDir(scope), 'copy.raw');
  await must('nbdcopy', [uri('disk'), copy]);
  expect((await compareFiles(path, copy)).verdict).toBe('same');
  expect((await stat(copy)).blocks * 512).toBeLessThan(10 * MIB);
  expect(faults).toEqual([]);
});
