import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  blockStatus,
  DeviceError,
  flushDevice,
  NbdError,
  readBytes,
  trimRange,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

/** A disk of 64 KiB in a file, with an opinion of its own on extents and on one place of it. */
const SCRIPT = `#!/bin/sh
disk=$(dirname "$0")/disk
case "$1" in
  get_size) echo 65536 ;;
  pread) if [ "$4" = 32768 ]; then echo 'EPERM not here' >&2; exit 1; fi
         dd if="$disk" iflag=skip_bytes,count_bytes skip="$4" count="$3" status=none ;;
  pwrite) echo "$1 $3 $4 $5" >> "$disk.log"; dd of="$disk" conv=notrunc oflag=seek_bytes seek="$4" status=none ;;
  trim|zero) echo "$1 $3 $4 $5" >> "$disk.log"; dd if=/dev/zero of="$disk" conv=notrunc bs=1 seek="$4" count="$3" status=none ;;
  flush) echo "$1" >> "$disk.log" ;;
  can_write|can_flush|can_trim|can_zero|can_extents|can_fast_zero) exit 0 ;;
  can_fua) echo native ;;
  extents) echo 0 16384 hole,zero; echo 16384 16384 zero; echo 32768 32768 ;;
  *) exit 2 ;;
esac
`;

async function errorOf(promise: Promise<unknown>): Promise<number> {
  return await promise.then(
    () => 0,
    (error: unknown) => (error instanceof DeviceError ? error.nbdError : -1),
  );
}

it('our client with a script in the sh plugin: data, flags, extents and errors', async () => {
  const scope = testScope();
  const dir = await tempDir(scope);
  const script = join(dir, 'disk.sh');
  await writeFile(join(dir, 'disk'), Buffer.alloc(65_536));
  await writeFile(script, SCRIPT, { mode: 0o755 });
  const { uri } = await nbdkit(scope, ['sh', script]);
  const client = await ourClient(scope, uri);
  await writeBytes(client, 100, Buffer.from('hello'), true);
  expect((await readBytes(client, 98, 9)).toString('latin1')).toBe('\0\0hello\0\0');
  await zeroRange(client, 101, 2);
  expect((await readBytes(client, 100, 5)).toString('latin1')).toBe('h\0\0lo');
  await trimRange(client, 100, 5);
  await flushDevice(client);
  expect((await blockStatus(client, 0, 65_536, 'base:allocation')).runs).toEqual([16_384, 3, 16_384, 2, 32_768, 0]);
  expect(await errorOf(readBytes(client, 32_768, 512))).toBe(NbdError.Eperm);
  expect((await readFile(join(dir, 'disk.log'), 'utf8')).trim().split('\n')).toEqual([
    'pwrite 5 100 fua',
    'zero 2 101 may_trim',
    'trim 5 100 ',
    'flush',
  ]);
});
