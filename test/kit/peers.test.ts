// Each peer of the kit serves real clients, holds what they wrote, and can come back at the same address.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compare, compareByQemu, compareFiles, copyOf } from './contents.js';
import { load, startLoad } from './load.js';
import { type Peer, nbdkit, nbdServer, qemuNbd, qemuPassThrough, sparseFile } from './peers.js';
import { must } from './process.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';
import { testScope } from './test-scope.js';

const MiB = 1 << 20;

const servers: Readonly<Record<string, (scope: Scope, tcp: boolean) => Promise<Peer>>> = {
  'qemu-nbd': async (scope, tcp) => await qemuNbd(scope, await sparseFile(scope, 16 * MiB), tcp ? { at: 'tcp' } : {}),
  'nbdkit memory': async (scope, tcp) => await nbdkit(scope, ['memory', '16M'], tcp ? { at: 'tcp' } : {}),
  'nbd-server': async (scope, tcp) =>
    await nbdServer(scope, await sparseFile(scope, 16 * MiB), tcp ? { at: 'tcp' } : {}),
};
const table = Object.keys(servers).flatMap((name) => [
  { name, tcp: false, over: 'a Unix socket' },
  { name, tcp: true, over: 'TCP' },
]);

test.for(table)('$name over $over holds what was written', async ({ name, tcp }) => {
  const scope = testScope();
  const peer = await servers[name]!(scope, tcp);
  const source = join(await tempDir(scope), 'source.raw');
  await must('dd', ['if=/dev/urandom', `of=${source}`, 'bs=1M', 'count=16', 'status=none']);
  await must('nbdcopy', [source, peer.uri]);
  expect(await compareFiles(source, await copyOf(scope, peer.uri))).toEqual({ verdict: 'same', said: '' });
  // QEMU against QEMU over loopback TCP stalls with many requests in flight (Nagle against delayed ACK).
  if (!tcp) expect((await compareByQemu(source, peer.uri)).verdict).toBe('same');
});

test('comparing tells same, differs and could not tell', async () => {
  const scope = testScope();
  const one = await nbdkit(scope, ['memory', '1M']);
  const other = await nbdkit(scope, ['data', '0x01', 'size=1M']);
  expect((await compare(scope, one.uri, one.uri)).verdict).toBe('same');
  expect((await compare(scope, one.uri, other.uri)).verdict).toBe('differs');
  expect((await compareByQemu(one.uri, other.uri)).verdict).toBe('differs');
  expect((await compareFiles('/nonexistent/a', '/nonexistent/b')).verdict).toBe('could-not-tell');
  expect((await compareByQemu(one.uri, 'nbd+unix:///?socket=/nonexistent')).verdict).toBe('could-not-tell');
});

test('a patient client in front outlives a server that is killed and comes back', async () => {
  const scope = testScope();
  const file = await sparseFile(scope, 16 * MiB);
  const first = await qemuNbd(scope, file);
  const patient = await qemuPassThrough(scope, first.address, { reconnectDelaySeconds: 30 });
  const running = await startLoad(scope, patient.uri, {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 4,
    sizeBytes: 8 * MiB,
    seconds: 2,
    ratePerSecond: 500,
  });
  await first.child.killHard();
  const second = await qemuNbd(scope, file, { at: first.address });
  expect(await running.finished()).toMatchObject({ errors: 0 });
  expect((await compare(scope, second.uri, file)).verdict).toBe('same');
});

test("QEMU's active mirror keeps two servers equal", async () => {
  const scope = testScope();
  const source = await nbdkit(scope, ['memory', '16M']);
  const target = await nbdkit(scope, ['memory', '16M']);
  const mirror = await qemuPassThrough(scope, source.address, { mirrorTo: target.address });
  const figures = await load(mirror.uri, {
    pattern: 'randwrite',
    blockBytes: 4096,
    depth: 8,
    sizeBytes: 8 * MiB,
    verify: true,
  });
  expect(figures).toMatchObject({ errors: 0, writtenBytes: 8 * MiB });
  expect((await compareByQemu(source.uri, target.uri)).verdict).toBe('same');
});
