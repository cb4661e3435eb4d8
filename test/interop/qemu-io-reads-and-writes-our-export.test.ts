import { memoryDevice, readBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { fileDevice, serveNbd } from '../kit/nbd-serve.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

async function qemuIo(uri: string, ...commands: readonly string[]): Promise<string> {
  return await must('qemu-io', ['-f', 'raw', '-t', 'none', ...commands.flatMap((one) => ['-c', one]), uri]);
}

it.each(['memory', 'file'])(
  'qemu-io: unaligned, FUA, zeroing and discarding requests do what they say on %s',
  async (kind) => {
    const scope = testScope();
    const device =
      kind === 'memory' ? memoryDevice(8 * MIB) : await fileDevice(scope, await sparseFile(scope, 8 * MIB));
    const { uri, faults } = await serveNbd(scope, { disk: device });
    const said = await qemuIo(
      uri(),
      'write -P 0x11 0 1M',
      'write -P 0x22 1001 7777',
      'write -f -P 0x33 65537 3',
      'read -P 0x11 0 1001',
      'read -P 0x22 1001 7777',
      'read -P 0x33 65537 3',
      'write -z 4096 4096',
      'write -z -u 65536 65536',
      'write -z -f 200001 7',
      'discard 524288 65536',
      'read -P 0 4096 4096',
      'read -P 0 65536 65536',
      'read -P 0 200001 7',
      'read -P 0 524288 65536',
      'flush',
    );
    expect(said).not.toMatch(/fail|verification/i);
    expect(await readBytes(device, 1000, 3)).toEqual(Buffer.from([0x11, 0x22, 0x22]));
    expect(faults).toEqual([]);
  },
);

it('qemu-io may not open a read-only export for writing', async () => {
  const { uri } = await serveNbd(testScope(), { disk: memoryDevice(MIB, { abilities: { readOnly: true } }) });
  await expect(qemuIo(uri(), 'write 0 512')).rejects.toThrow(/Permission denied/);
});
