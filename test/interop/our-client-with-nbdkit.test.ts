import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  DeviceError,
  fitLimits,
  DEFAULT_LIMITS,
  flushDevice,
  isZeroes,
  NbdError,
  readBytes,
  readSlices,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit, sparseFile } from '../kit/peers.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

async function errorOf(promise: Promise<unknown>): Promise<number> {
  return await promise.then(
    () => 0,
    (error: unknown) => (error instanceof DeviceError ? error.nbdError : -1),
  );
}

it('our client keeps hundreds of requests in flight on nbdkit memory and gets each answer right', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['memory', '64M']);
  const client = await ourClient(scope, uri);
  const writes = Array.from({ length: 400 }, (_, index) =>
    writeBytes(client, index * 10_007, Buffer.alloc(10_007, (index % 255) + 1)),
  );
  await Promise.all(writes);
  await flushDevice(client);
  const answers = await Promise.all(writes.map((_, index) => readBytes(client, index * 10_007, 10_007)));
  const isRight = answers.map((answer, index) => answer.equals(Buffer.alloc(10_007, (index % 255) + 1)));
  expect(isRight.indexOf(false)).toBe(-1);
});

it('holes that nbdkit sends as such stay slices of the shared zeroes', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['file', await sparseFile(scope, 4 * MIB)]);
  const client = await ourClient(scope, uri);
  await writeBytes(client, MIB, Buffer.alloc(MIB, 1));
  await zeroRange(client, MIB + 4096, 8192);
  expect(await readBytes(client, MIB, 16_384)).toEqual(
    Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(8192), Buffer.alloc(4096, 1)]),
  );
  const slices = await readSlices(client, 2 * MIB, MIB);
  expect(Buffer.concat(slices).equals(Buffer.alloc(MIB))).toBe(true);
  expect(slices.length > 0 && (slices.every(isZeroes) || !slices.some(isZeroes))).toBe(true);
});

it.each([
  ['EIO', NbdError.Eio],
  ['ENOSPC', NbdError.Enospc],
  ['EPERM', NbdError.Eperm],
  ['EINVAL', NbdError.Einval],
])('an error %s of the error filter arrives as such, and the connection goes on', async (name, nbdError) => {
  const scope = testScope();
  const switchFile = join(await tempDir(scope), 'on');
  const { uri } = await nbdkit(scope, [
    '--filter=error',
    'memory',
    '1M',
    `error=${name}`,
    'error-pwrite-rate=100%',
    `error-file=${switchFile}`,
  ]);
  const client = await ourClient(scope, uri);
  await writeBytes(client, 0, Buffer.alloc(512, 1));
  await writeFile(switchFile, '');
  expect(await errorOf(writeBytes(client, 0, Buffer.alloc(512, 2)))).toBe(nbdError);
  expect(await readBytes(client, 0, 512)).toEqual(Buffer.alloc(512, 1));
});

it('an error of a script in the eval plugin arrives with its number', async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, ['eval', 'get_size=echo 1048576', 'pread=echo EIO broken >&2; exit 1']);
  const client = await ourClient(scope, uri);
  expect(client.abilities.readOnly).toBe(true);
  expect(await errorOf(readBytes(client, 0, 512))).toBe(NbdError.Eio);
});

it('block sizes that the blocksize-policy filter demands are honoured through fitLimits', async () => {
  const scope = testScope();
  const policy = [
    'blocksize-error-policy=error',
    'blocksize-minimum=4096',
    'blocksize-preferred=4096',
    'blocksize-maximum=65536',
  ];
  const { uri } = await nbdkit(scope, ['--filter=blocksize-policy', 'memory', '4M', ...policy]);
  const client = await ourClient(scope, uri);
  expect(client.limits).toEqual({ minimumBytes: 4096, preferredBytes: 4096, maximumBytes: 65_536 });
  expect(await errorOf(writeBytes(client, 100, Buffer.alloc(100, 1)))).toBe(NbdError.Einval);
  const fitted = fitLimits(client, DEFAULT_LIMITS);
  await writeBytes(fitted, 4000, Buffer.alloc(300_000, 5), true);
  await Promise.all(
    Array.from({ length: 64 }, (_, index) => writeBytes(fitted, 1000 + index * 7, Buffer.alloc(7, index))),
  );
  const answer = await readBytes(fitted, 0, 310_000);
  const expected = Buffer.alloc(310_000);
  expected.fill(5, 4000, 304_000);
  for (let index = 0; index < 64; index++) expected.fill(index, 1000 + index * 7, 1007 + index * 7);
  expect(answer.equals(expected)).toBe(true);
});

it('a server that dies takes the connection along: requests in flight are handed back', async () => {
  const scope = testScope();
  const { uri, child } = await nbdkit(scope, ['--filter=delay', 'memory', '1M', 'rdelay=60']);
  const faults: string[] = [];
  const client = await ourClient(scope, uri, { lost: (fault) => faults.push(fault.code) });
  const read = errorOf(readBytes(client, 0, 512));
  await child.killHard();
  expect(await read).toBe(NbdError.Eshutdown);
  expect(faults).toHaveLength(1);
  expect(client.fault?.retryable).toBe(true);
});
