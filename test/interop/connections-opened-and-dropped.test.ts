import { connect } from 'node:net';
import { memoryDevice, readBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

it('thousands of connections opened and dropped leave nothing behind', async () => {
  const scope = testScope();
  const { uri, address, server } = await serveNbd(scope, { disk: memoryDevice(MIB) }, { tcp: true });
  if (address.kind !== 'tcp') throw new Error('unreachable: TCP was asked for');
  for (let round = 0; round < 20; round++) {
    const dropped = Array.from(
      { length: 100 },
      (_, index) =>
        new Promise<void>((resolve) => {
          const socket = connect(address.port, address.host, () => {
            if (index % 3 === 0) socket.end('garbage');
            else if (index % 3 === 1) socket.resetAndDestroy();
            else socket.destroy();
          });
          socket.on('error', () => undefined);
          socket.on('close', () => resolve());
          socket.resume();
        }),
    );
    await Promise.all(dropped);
  }
  await expect.poll(() => server.clients().length, { timeout: 10_000 }).toBe(0);
  const client = await ourClient(scope, uri('disk'));
  expect((await readBytes(client, 0, 512)).equals(Buffer.alloc(512))).toBe(true);
});
