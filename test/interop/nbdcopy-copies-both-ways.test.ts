import { writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { compareFiles } from '../kit/contents.js';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it.each([false, true])('nbdcopy copies from and to our exports over several connections (TCP: %s)', async (tcp) => {
  const scope = testScope();
  const paths = await Promise.all(['one.raw', 'two.raw', 'three.raw'].map((name) => sparseFile(scope, 64 * MIB, name)));
  const [one = '', two = '', three = ''] = paths;
  const source = await fileDevice(scope, one);
  for (let index = 0; index < 30; index++) {
    await writeBytes(source, index * 2 * MIB + 777, Buffer.alloc(500_000, index + 1));
  }
  const target = await fileDevice(scope, two);
  const { uri, faults } = await serveNbd(scope, { source, target }, { tcp });
  await must('nbdcopy', ['--flush', uri('source'), uri('target')]);
  expect((await compareFiles(one, two)).verdict).toBe('same');
  await must('nbdcopy', [uri('target'), three]);
  expect((await compareFiles(one, three)).verdict).toBe('same');
  expect(faults).toEqual([]);
});
