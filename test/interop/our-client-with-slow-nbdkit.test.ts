import { DeviceError, flushDevice, NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { testScope } from '../kit/test-scope.js';

it('our client waits for slow replies, many at a time, whatever order they come in', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['-t', '64', '--filter=delay', 'memory', '1M', 'rdelay=300ms']);
  const client = await ourClient(scope, uri, { requestTimeoutMs: 10_000 });
  for (let index = 0; index < 32; index++) await writeBytes(client, index * 512, Buffer.alloc(512, index + 1));
  const started = performance.now();
  const answers = await Promise.all(Array.from({ length: 32 }, (_, index) => readBytes(client, index * 512, 512)));
  expect(answers.map((answer) => answer.readUInt8(511))).toEqual(Array.from({ length: 32 }, (_, index) => index + 1));
  // One after the other they would take ten seconds.
  expect(performance.now() - started).toBeLessThan(8_000);
});

it('a reply that does not come within the time limit makes the connection dead', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['--filter=delay', 'memory', '1M', 'rdelay=60']);
  const faults: string[] = [];
  const client = await ourClient(scope, uri, { requestTimeoutMs: 400, lost: (fault) => faults.push(fault.code) });
  const error = await readBytes(client, 0, 512).catch((thrown: unknown) => thrown);
  expect(error instanceof DeviceError && error.nbdError).toBe(NbdError.Eshutdown);
  expect(faults).toEqual(['request-timeout']);
});

it('a flush that takes longer than the time limit is waited for while the server answers others', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, [
    'eval',
    'thread_model=echo parallel',
    'get_size=echo 1048576',
    'pread=dd if=/dev/zero count=$3 iflag=count_bytes',
    'pwrite=cat >/dev/null',
    'can_write=exit 0',
    'can_flush=exit 0',
    'flush=sleep 3',
  ]);
  const faults: string[] = [];
  const client = await ourClient(scope, uri, { requestTimeoutMs: 700, lost: (fault) => faults.push(fault.code) });
  await flushDevice(client);
  expect(faults).toEqual([]);
});
