// Real clients write through the agent to real upstreams; the replica is then equal to the upstream, byte for byte.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compareFiles, copyOf } from '../kit/contents.js';
import { load } from '../kit/load.js';
import { nbdkit, nbdServer, qemuNbd, sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { startSystem } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { expectReplica, expectSame } from '../kit/expectations.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 32 * MiB;

interface Upstream {
  /** What the agent is given. */
  readonly uri: string;
  /** What nbdcopy reads, past the agent. */
  readonly readable: string;
}

const upstreams: Readonly<Record<string, (scope: Scope) => Promise<Upstream>>> = {
  'qemu-nbd': async (scope) => served((await qemuNbd(scope, await sparseFile(scope, SIZE))).uri),
  'qemu-nbd over TCP': async (scope) =>
    served((await qemuNbd(scope, await sparseFile(scope, SIZE), { at: 'tcp' })).uri),
  nbdkit: async (scope) => served((await nbdkit(scope, ['memory', String(SIZE)])).uri),
  'nbd-server': async (scope) => served((await nbdServer(scope, await sparseFile(scope, SIZE))).uri),
  'the embedded file': async (scope) => {
    const file = await sparseFile(scope, SIZE);
    return { uri: `file:${file}`, readable: file };
  },
};
const served = (uri: string): Upstream => ({ uri, readable: uri });

test.for(Object.keys(upstreams))(
  '%s: what real clients write is in the replica',
  { timeout: 120_000 },
  async (name) => {
    const scope = testScope();
    const upstream = await upstreams[name]!(scope);
    const { hub, agent } = await startSystem(scope, upstream.uri);
    const guest = agent.uri();

    expect((await must('nbdinfo', ['--size', guest])).trim()).toBe(String(SIZE));
    expect(await must('nbdinfo', ['--list', guest])).toContain('disk0');
    const image = join(await tempDir(scope), 'image.raw');
    await must('dd', ['if=/dev/urandom', `of=${image}`, 'bs=1M', 'count=3', 'status=none']);
    await must('truncate', ['-s', String(SIZE), image]);
    await must('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', image, guest]);
    expectSame(await compareFiles(image, await copyOf(scope, guest)));

    const io = [
      'write -P 0xa5 8M 1M',
      'aio_write -P 0x5a 9M 64k',
      'aio_write -P 0x5b 9500k 3k',
      'write -z 0 64k',
      'discard 2M 512k',
      'aio_flush',
      'read -P 0xa5 8M 1M',
    ];
    const said = await must('qemu-io', ['-f', 'raw', ...io.flatMap((line) => ['-c', line]), guest]);
    expect(said).not.toMatch(/failed|verification/i);

    await must('nbdcopy', ['--flush', image, agent.uri('disk0')]);
    await load(guest, {
      depth: 16,
      sizeBytes: 8 * MiB,
      offsetBytes: 12 * MiB,
      verify: true,
    });
    await load(guest, { pattern: 'randrw', blockBytes: 3 * 512, sizeBytes: 2 * MiB, offsetBytes: 24 * MiB });

    await agent.waitUntilProtected();
    await expectReplica(scope, upstream.readable, hub);
    expect(hub.child.output + agent.child.output).not.toMatch(/uncaught|unhandled/i);
  },
);

test(
  'after an orderly stop with retention 0 the base image is the disk, a plain raw file',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const file = await sparseFile(scope, SIZE);
    const { hub, agent } = await startSystem(scope, `file:${file}`, { hub: { args: ['--retention', '0s'] } });
    await load(agent.uri(), { depth: 16, sizeBytes: 16 * MiB });
    await agent.waitUntilProtected();
    expect(await agent.child.stop()).toEqual({ code: 0, signal: null });
    expect(await hub.child.stop()).toEqual({ code: 0, signal: null });
    expectSame(await compareFiles(file, hub.baseFile('vm1', 'disk0')));
  },
);

test('first sync is thin: only what is allocated and not zero crosses the link', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const file = await sparseFile(scope, 1024 * MiB);
  await must('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', 'count=4', 'seek=100', 'conv=notrunc', 'status=none']);
  await must('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', 'count=64', 'seek=200', 'conv=notrunc', 'status=none']);
  const { hub, agent } = await startSystem(scope, `file:${file}`);
  const { lastResync } = await agent.status();
  expect(lastResync?.bytesSent).toBeGreaterThanOrEqual(4 * MiB);
  expect(lastResync?.bytesSent).toBeLessThanOrEqual(5 * MiB);
  await expectReplica(scope, file, hub);
});
