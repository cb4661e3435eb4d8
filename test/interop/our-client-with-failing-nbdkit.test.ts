import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readBytes, writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

/** The first two reads fail. */
const FAILS_AT_FIRST = `
count="$tmpdir/count"; n=$(cat "$count" 2>/dev/null || echo 0); echo $((n + 1)) > "$count"
if [ "$n" -lt 2 ]; then echo 'EIO not yet' >&2; exit 1; fi
dd if=/dev/zero bs="$3" count=1 status=none`;

it("failures that nbdkit's retry filter hides are hidden from our client too", async () => {
  const scope = testScope();
  const { uri } = await nbdkit(scope, [
    ...['--filter=retry', 'eval', 'get_size=echo 65536', `pread=${FAILS_AT_FIRST}`],
    ...['retries=5', 'retry-delay=1', 'retry-exponential=no'],
  ]);
  const client = await ourClient(scope, uri);
  expect(await readBytes(client, 512, 512)).toEqual(Buffer.alloc(512));
});

it('errors at random positions: each request has its own outcome, and none is lost', async () => {
  const scope = testScope();
  const switchFile = join(await tempDir(scope), 'on');
  const { uri } = await nbdkit(scope, [
    '--filter=error',
    'memory',
    '1M',
    'error=EIO',
    'error-rate=30%',
    `error-file=${switchFile}`,
  ]);
  const client = await ourClient(scope, uri);
  await writeFile(switchFile, '');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 200 }, (_, index) => writeBytes(client, index * 512, Buffer.alloc(512, index))),
  );
  const failed = outcomes.filter(({ status }) => status === 'rejected').length;
  expect(failed).toBeGreaterThan(0);
  expect(failed).toBeLessThan(200);
  expect([client.inFlight, client.fault]).toEqual([0, null]);
});
