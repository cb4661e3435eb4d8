// REPLAY: an upstream that loses what it acknowledged and never flushed gets it again, before anybody reads it.
import { readFile } from 'node:fs/promises';
import { inspectState } from '@rephub/bitmap';
import { flushDevice, NbdError, readBytes, writeBytes, zeroRange } from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { expect, test } from 'vitest';
import { compareByQemu } from '../kit/contents.js';
import { load, startLoad } from '../kit/load.js';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit, type Peer, type PeerOptions, sparseFile } from '../kit/peers.js';
import { AgentPlace } from '../kit/rephub-system.js';
import type { Scope } from '../kit/scope.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const MiB = 1 << 20;
const RETRY = ['--retries', 'forever', '--retry-delay', '100ms'];

/** Writes stay in nbdkit's own cache until a flush: killed, it has forgotten them. */
async function forgetful(scope: Scope, file: string, options: PeerOptions = {}): Promise<Peer> {
  return await nbdkit(scope, ['--filter=cache', 'file', file, 'cache=writeback'], options);
}

test('what was written and not flushed is there again after upstream was killed -9', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const file = await sparseFile(scope, 16 * MiB);
  let upstream = await forgetful(scope, file);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: upstream.uri }], args: RETRY });
  await agent.start();
  const guest = await ourClient(scope, agent.uri());
  const block = (fill: number): Buffer => Buffer.alloc(64 * 1024, fill);
  await writeBytes(guest, 0, block(1));
  await flushDevice(guest);
  await writeBytes(guest, MiB, block(2));
  await writeBytes(guest, MiB, block(3));
  await zeroRange(guest, 0, 4096);
  expect((await readFile(file)).subarray(MiB, MiB + 4096).equals(Buffer.alloc(4096))).toBe(true);

  await upstream.child.killHard();
  upstream = await forgetful(scope, file, { at: upstream.address });
  const expected = Buffer.concat([Buffer.alloc(4096), block(1).subarray(4096)]);
  expect((await readBytes(guest, 0, 64 * 1024)).equals(expected)).toBe(true);
  expect((await readBytes(guest, MiB, 64 * 1024)).equals(block(3))).toBe(true);

  await flushDevice(guest);
  await upstream.child.killHard();
  const stable = await readFile(file);
  expect(stable.subarray(0, 64 * 1024).equals(expected)).toBe(true);
  expect(stable.subarray(MiB, MiB + 64 * 1024).equals(block(3))).toBe(true);
  const { dirtyBytes } = await agent.status();
  expect(dirtyBytes).toBe(16 * MiB);
});

test(
  'where the agent dies too before upstream is back, the guest’s next flush fails, and tells it once',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const file = await sparseFile(scope, 16 * MiB);
    const upstream = await forgetful(scope, file);
    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: upstream.uri }],
      args: RETRY,
    });
    await agent.start();
    const guest = await ourClient(scope, agent.uri());
    await writeBytes(guest, MiB, Buffer.alloc(64 * 1024, 2));

    await upstream.child.killHard();
    await agent.waitFor('upstream to be missed', ({ upstream: [first] }) => first?.up === false);
    // What it has noticed it stores at once; a kill between the two would find nothing stored.
    await waitUntil('what is owed to be stored', async () => {
      const { identity } = (await inspectState(nodePlatform().files, agent.stateDir)) ?? {};
      return (identity?.notes['flush-error-owed'] ?? '') !== '';
    });
    await agent.child.killHard();
    const { child } = await forgetful(scope, file, { at: upstream.address });
    await agent.start();
    const again = await ourClient(scope, agent.uri());
    expect((await readBytes(again, MiB, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    await expect(flushDevice(again)).rejects.toMatchObject({ nbdError: NbdError.Eio });
    await flushDevice(again);

    // A second restart owes nothing any more.
    await agent.child.killHard();
    await agent.start();
    await flushDevice(await ourClient(scope, agent.uri()));
    await child.killHard();
  },
);

test('killed again and again under load, nothing that was acknowledged is missing', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await sparseFile(scope, 32 * MiB);
  let upstream = await forgetful(scope, file);
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: upstream.uri }],
    args: [...RETRY, '--replay-buffer', '4MiB'],
  });
  await agent.start();
  const options = { pattern: 'randwrite', blockBytes: 4096, depth: 16, sizeBytes: 16 * MiB } as const;
  const running = await startLoad(scope, agent.uri(), { ...options, ratePerSecond: 1500, verify: true });
  for (let kills = 1; kills <= 4; kills += 1) {
    await agent.waitFor(
      'some writes to be unflushed',
      (status) => (status.upstream[0]?.unflushedBytes ?? 0) > 256 * 1024,
    );
    await upstream.child.killHard();
    upstream = await forgetful(scope, file, { at: upstream.address });
    await agent.waitFor('upstream to be back', (status) => (status.upstream[0]?.reconnects ?? 0) >= kills);
  }
  expect((await running.finished()).errors).toBe(0);
  // Flushed by the agent's orderly end, at the latest.
  expect((await agent.child.stop()).code).toBe(0);
  await upstream.child.killHard();
  upstream = await forgetful(scope, file, { at: upstream.address });
  await agent.start();
  expect((await load(agent.uri(), { ...options, verify: true, extra: ['--verify_only'] })).errors).toBe(0);
  expect(await compareByQemu(agent.uri(), upstream.uri)).toMatchObject({ verdict: 'same' });
  expect((await agent.child.stop()).code).toBe(0);
});
