import { join } from 'node:path';
import { exportUri, fixedExports, memoryDevice, NbdServer, readBytes, writeBytes } from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { expect, it } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit } from '../kit/peers.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it("nbdkit's retry filter opens our export again after our server was closed and started anew", async () => {
  const scope = testScope();
  const device = memoryDevice(MIB);
  const address = { kind: 'unix', path: join(await tempDir(scope), 'ours.sock') } as const;
  const serve = async (): Promise<NbdServer> => {
    const server = new NbdServer({ platform: nodePlatform(), exports: fixedExports(new Map([['disk', device]])) });
    scope.defer('our NBD server', () => server.close(1_000));
    await server.listen(address);
    return server;
  };
  const first = await serve();
  const retry = [
    '--filter=retry',
    'nbd',
    `uri=${exportUri(address, 'disk')}`,
    'retries=60',
    'retry-delay=1',
    'retry-exponential=no',
  ];
  const between = await nbdkit(scope, retry);
  const client = await ourClient(scope, between.uri);
  await writeBytes(client, 1000, Buffer.alloc(1000, 7));
  await first.close(1_000);
  const reading = readBytes(client, 1000, 1000);
  await serve();
  expect(await reading).toEqual(Buffer.alloc(1000, 7));
});
