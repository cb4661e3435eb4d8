import { join } from 'node:path';
import { readBytes, writeBytes, zeroRange } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { compareByQemu, compareFiles } from '../kit/contents.js';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('qemu-img converts our export to qcow2 and back into another one, both the same by cmp', async () => {
  const scope = testScope();
  const [from, to] = [await sparseFile(scope, 64 * MIB, 'from.raw'), await sparseFile(scope, 64 * MIB, 'to.raw')];
  const [source, target] = [await fileDevice(scope, from), await fileDevice(scope, to)];
  for (let index = 0; index < 20; index++) {
    await writeBytes(source, index * 3 * MIB + 12_345, Buffer.alloc(300_000 + index, index + 1));
  }
  await zeroRange(source, 7 * MIB, 100_000);
  // What the target held before must be gone.
  await writeBytes(target, 50 * MIB, Buffer.alloc(MIB, 99));
  const { uri, faults } = await serveNbd(scope, { source, target });
  const image = join(await tempDir(scope), 'image.qcow2');
  await must('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri('source'), image]);
  await must('qemu-img', ['convert', '-n', '-f', 'qcow2', '-O', 'raw', image, uri('target')]);
  expect((await compareFiles(from, to)).verdict).toBe('same');
  expect((await compareByQemu(uri('source'), uri('target'))).verdict).toBe('same');
  await writeBytes(target, 11, Buffer.from([(await readBytes(target, 11, 1)).readUInt8(0) ^ 1]));
  expect((await compareByQemu(uri('source'), uri('target'))).verdict).toBe('differs');
  expect(faults).toEqual([]);
});
