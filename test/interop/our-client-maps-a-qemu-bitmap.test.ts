import { join } from 'node:path';
import { blockStatus } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { start, must } from '../kit/process.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';
import { listens, unixUri } from '../kit/addresses.js';

const MIB = 1024 * 1024;

it("our client asks for two contexts at once, base:allocation and a dirty bitmap of QEMU's", async () => {
  const scope = testScope();
  const dir = await tempDir(scope);
  const [image, socket] = [join(dir, 'disk.qcow2'), join(dir, 'qemu.sock')];
  await must('qemu-img', ['create', '-f', 'qcow2', image, '16M']);
  await must('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 0 2M', image]);
  await must('qemu-img', ['bitmap', '--add', image, 'changes']);
  await must('qemu-io', ['-f', 'qcow2', '-c', 'write -P 2 4M 1M', image]);
  const child = start(scope, 'qemu-nbd', ['-r', '--persistent', '-f', 'qcow2', '-B', 'changes', '-k', socket, image]);
  await child.waitFor('qemu-nbd to listen', async () => await listens({ socket }));
  const changes = 'qemu:dirty-bitmap:changes';
  const client = await ourClient(scope, unixUri(socket), { contexts: ['base:allocation', changes, 'x-none:here'] });
  expect(client.abilities.contexts).toEqual(['base:allocation', changes]);
  expect((await blockStatus(client, 0, 16 * MIB, changes)).runs).toEqual([4 * MIB, 0, MIB, 1, 11 * MIB, 0]);
  const { runs } = await blockStatus(client, 0, 16 * MIB, 'base:allocation');
  expect(runs.slice(0, 2)).toEqual([2 * MIB, 0]);
});
