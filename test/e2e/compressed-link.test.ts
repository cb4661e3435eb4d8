// Compression on the link: where the link is slow and data shrinks fewer bytes cross than are written, elsewhere none is
// compressed; the replica is the disk in every case.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { CuttingProxy } from '../kit/cutting-proxy.js';
import { expectReplica, expectSame } from '../kit/expectations.js';
import { compareFiles } from '../kit/contents.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { HubPlace, startSystem, type System } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const DISK = 64 * MiB;
const LINK_RATE = 4 * MiB;

interface Scene extends System {
  readonly proxy: CuttingProxy;
  readonly disk: string;
}

/** An empty disk, protected over a link through a proxy; the window is small and writes wait for it, so they come as the link goes. */
async function scene(scope: Scope, args: readonly string[], hubArgs: readonly string[] = []): Promise<Scene> {
  const disk = await sparseFile(scope, DISK);
  let proxy: CuttingProxy | undefined;
  const system = await startSystem(scope, `file:${disk}`, {
    hub: { args: hubArgs },
    agent: { args: ['--window', '2MiB', '--on-congestion', 'block', ...args] },
    hubUrl: async (hub) => {
      proxy = await CuttingProxy.start(scope, { port: hub.linkPort });
      return `tcp://127.0.0.1:${proxy.port}`;
    },
  });
  if (proxy === undefined) throw new Error('unreachable');
  return { ...system, proxy, disk };
}

/** Content as programs write it: no two blocks alike, and all of them shrink. */
async function logLike(scope: Scope, bytes: number): Promise<string> {
  const file = join(await tempDir(scope), 'log');
  const lines: string[] = [];
  let length = 0;
  for (let at = 0; length < bytes; at += 1) {
    const line = `${at} the disk of a virtual machine wrote sector ${(at * 7919) % 65_536} in ${at % 97} us\n`;
    lines.push(line);
    length += line.length;
  }
  await writeFile(file, lines.join('').slice(0, bytes));
  return file;
}

async function noise(scope: Scope, bytes: number): Promise<string> {
  const file = join(await tempDir(scope), 'noise');
  await writeFile(file, randomBytes(bytes));
  return file;
}

/** Copies the file to the guest's disk and waits for the replica. Returns the bytes that crossed the link meanwhile. */
async function written({ agent, proxy }: Scene, file: string): Promise<number> {
  const before = proxy.passedBytes.up;
  await must('nbdcopy', ['--connections=1', '--requests=8', '--flush', file, agent.uri()], { timeoutMs: 120_000 });
  await agent.waitUntilProtected(120_000);
  return proxy.passedBytes.up - before;
}

/** What the hub says of the payload that came. */
async function received({ hub }: Scene): Promise<{ rawBytes: number; carriedBytes: number; compression: string }> {
  const status: object = await hub.status('vm1');
  return (status as { received: { rawBytes: number; carriedBytes: number; compression: string } }).received;
}

describe('compress auto', () => {
  test('a slow link, data that shrinks: far fewer bytes cross than are written', { timeout: 180_000 }, async () => {
    const scope = testScope();
    const here = await scene(scope, []);
    here.proxy.slow(LINK_RATE);
    const bytes = 48 * MiB;
    const crossed = await written(here, await logLike(scope, bytes));
    expect(crossed).toBeLessThan(bytes / 2);
    const { rawBytes, carriedBytes, compression } = await received(here);
    expect(rawBytes).toBeGreaterThanOrEqual(bytes);
    expect(carriedBytes).toBeLessThan(bytes / 2);
    expect(compression).not.toBe('zstd');
    here.proxy.pass();
    await expectReplica(scope, here.disk, here.hub);
  });

  test('a slow link, data that does not shrink: it crosses as it is', { timeout: 180_000 }, async () => {
    const scope = testScope();
    const here = await scene(scope, []);
    here.proxy.slow(LINK_RATE);
    const bytes = 20 * MiB;
    const crossed = await written(here, await noise(scope, bytes));
    expect(crossed).toBeGreaterThan(bytes);
    expect(crossed).toBeLessThan(bytes * 1.02);
    const { rawBytes, carriedBytes, compression } = await received(here);
    expect([carriedBytes, compression]).toEqual([rawBytes, 'none']);
    expect((await here.agent.status()).counters['compressedBytes']).toBe(0);
    here.proxy.pass();
    await expectReplica(scope, here.disk, here.hub);
  });

  test('a link at full speed: nothing is compressed', { timeout: 180_000 }, async () => {
    const scope = testScope();
    const here = await scene(scope, []);
    const bytes = 48 * MiB;
    expect(await written(here, await logLike(scope, bytes))).toBeGreaterThan(bytes);
    expect((await here.agent.status()).counters['compressedRawBytes']).toBe(0);
    expect((await received(here)).compression).toBe('none');
  });
});

test.each(['lz4', 'zstd'])(
  'compress %s: what lies in the journal survives a killed hub and a cut link, and ends in the base image',
  { timeout: 180_000 },
  async (codec) => {
    const scope = testScope();
    const here = await scene(scope, ['--compress', codec], ['--retention', '1h']);
    const bytes = 32 * MiB;
    const file = await logLike(scope, bytes);
    const crossed = await written(here, file);
    expect(crossed).toBeLessThan(bytes / 2);
    expect((await received(here)).compression).toBe(codec);
    await expectReplica(scope, here.disk, here.hub);
    await here.hub.child.killHard();
    await here.hub.start();
    await expectReplica(scope, here.disk, here.hub);
    here.proxy.cut();
    await here.agent.waitFor('the link to be back', ({ agentConnected }) => agentConnected);
    await written(here, file);
    await expectReplica(scope, here.disk, here.hub);
    await here.agent.child.stop();
    await here.hub.child.stop();
    const applying = await HubPlace.prepare(scope, { dataDir: here.hub.dataDir, args: ['--retention', '0s'] });
    await applying.start();
    await applying.child.stop();
    expectSame(await compareFiles(here.disk, applying.baseFile('vm1', 'disk0')));
  },
);

test('compress off: nothing is, though the link is slow', { timeout: 180_000 }, async () => {
  const scope = testScope();
  const here = await scene(scope, ['--compress', 'off']);
  here.proxy.slow(2 * LINK_RATE);
  const bytes = 16 * MiB;
  expect(await written(here, await logLike(scope, bytes))).toBeGreaterThan(bytes);
  expect((await received(here)).compression).toBe('none');
});
