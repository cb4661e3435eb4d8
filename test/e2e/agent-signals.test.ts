// SIGTERM: requests in flight are answered, upstream flushed, state saved clean, exit 0; upstream away: exit 1, state unclean.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { startLoad } from '../kit/load.js';
import { qemuNbd } from '../kit/peers.js';
import { expectReplica } from '../kit/expectations.js';
import { patientGuest, protectedDisk, protectedFile } from '../kit/protected-disk.js';
import { startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const MiB = 1 << 20;

test(
  'stopped under load: exit 0 within 10 s, and nothing is compared or sent twice afterwards',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { upstream, hub, agent } = await protectedDisk(scope, 64 * MiB, { filled: true });
    const guest = await patientGuest(scope, agent);
    const running = await startLoad(scope, guest.uri, {
      sizeBytes: 16 * MiB,
      ratePerSecond: 1000,
      verify: true,
    });
    await hub.moreRecords('vm1', 200);
    const asked = performance.now();
    agent.child.signal('SIGTERM');
    expect(await agent.child.waitForExit(15_000)).toEqual({ code: 0, signal: null });
    expect(performance.now() - asked).toBeLessThan(10_000);
    await agent.start();
    expect((await running.finished()).errors).toBe(0);
    const after = await agent.waitUntilProtected();
    await guest.child.stop();
    expect(after.counters['copiedBytes']).toBe(0);
    await expectReplica(scope, upstream.uri, hub);
  },
);

test('stopped while upstream is away: exit 1, and the next start resyncs', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, 32 * MiB);
  const { upstream, hub, agent } = await protectedFile(scope, file);
  const guest = await patientGuest(scope, agent);
  const running = await startLoad(scope, guest.uri, {
    sizeBytes: 8 * MiB,
    ratePerSecond: 1000,
  });
  await hub.moreRecords('vm1', 100);
  await upstream.child.killHard();
  await agent.child.waitForOutput(/upstream.*(lost|down|reconnect|away|closed)/is);
  agent.child.signal('SIGTERM');
  expect((await agent.child.waitForExit(15_000)).code).toBe(1);
  await qemuNbd(scope, file, { at: upstream.address });
  await agent.start();
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  await guest.child.stop();
  await expectReplica(scope, upstream.uri, hub);
});

test(
  'a signal while it starts, before and after guests are let in: exit 0, state saved clean, nothing sent again',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { hub, agent } = await startSystem(scope, `file:${await filledDisk(scope, 16 * MiB)}`);
    await agent.child.stop();
    // Before the first of these nothing is held; with the second, guests may be in.
    for (const socket of [join(agent.stateDir, 'control.sock'), agent.address.socket]) {
      expect(existsSync(socket)).toBe(false);
      const started = agent.start().catch(() => undefined);
      await waitUntil(socket, () => existsSync(socket), { intervalMs: 1 });
      agent.child.signal('SIGTERM');
      expect(await agent.child.waitForExit(15_000), socket).toEqual({ code: 0, signal: null });
      expect(agent.child.output).toMatch(/stopped.*true/);
      await started;
    }
    await agent.start();
    const after = await agent.waitUntilProtected();
    expect(after.counters['copiedBytes']).toBe(0);
    expect(after.lastResync?.bytesSent ?? 0).toBe(0);
    await hub.waitFor('vm1', 'protected', ({ state }) => state === 'protected');
  },
);
