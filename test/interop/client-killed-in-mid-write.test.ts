import { memoryDevice, readBytes, writeBytes } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { ourClient, serveNbd } from '../kit/nbd-serve.js';
import { start } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;

/** Announces a write of 1 MiB, sends half of it, and says so. */
const SCRIPT = `
import os, socket, struct, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["SOCKET"])
s.recv(18)
s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 4) + b"disk")
s.recv(10)
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 1 << 20) + bytes([7]) * (1 << 19))
print("sent", flush=True)
time.sleep(60)
`;

it('a client killed in the middle of a write: nothing of it is written, the others go on', async () => {
  const scope = testScope();
  const { uri, address, faults, server } = await serveNbd(scope, { disk: memoryDevice(4 * MIB) });
  if (address.kind !== 'unix') throw new Error('unreachable: a Unix socket is the default');
  const other = await ourClient(scope, uri('disk'));
  const child = start(scope, '/usr/bin/python3', ['-c', SCRIPT], { env: { SOCKET: address.path } });
  await child.waitForOutput(/sent/);
  await child.killHard();
  await expect.poll(() => faults.map(({ code }) => code)).toEqual(['request-cut']);
  await expect.poll(() => server.clients().length).toBe(1);
  await writeBytes(other, 2 * MIB, Buffer.alloc(MIB, 9));
  expect((await readBytes(other, 0, 2 * MIB)).equals(Buffer.alloc(2 * MIB))).toBe(true);
});
