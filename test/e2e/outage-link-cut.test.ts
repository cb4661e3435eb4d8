// The link between agent and hub is cut, half-open, or cut inside a frame; the stream is resumed where it was.
import { expect, test } from 'vitest';
import { CuttingProxy } from '../kit/cutting-proxy.js';
import { filledDisk } from '../kit/filled-disk.js';
import { type RunningLoad, startLoad } from '../kit/load.js';
import { type Peer, qemuNbd } from '../kit/peers.js';
import { startSystem, type System } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { expectReplica } from '../kit/expectations.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const TOUCHED = 16 * MiB;

interface Scene extends System {
  readonly proxy: CuttingProxy;
  readonly upstream: Peer;
  readonly running: RunningLoad;
}

/** A protected disk under load, its link through a proxy, some writes over. */
async function scene(scope: Scope, agentArgs: readonly string[] = []): Promise<Scene> {
  const upstream = await qemuNbd(scope, await filledDisk(scope, 64 * MiB));
  let proxy: CuttingProxy | undefined;
  const system = await startSystem(scope, upstream.uri, {
    agent: { args: agentArgs },
    hubUrl: async (hub) => {
      proxy = await CuttingProxy.start(scope, { port: hub.linkPort });
      return `tcp://127.0.0.1:${proxy.port}`;
    },
  });
  if (proxy === undefined) throw new Error('unreachable');
  const running = await startLoad(scope, system.agent.uri(), {
    depth: 16,
    sizeBytes: TOUCHED,
    ratePerSecond: 1000,
    verify: true,
  });
  await system.hub.moreRecords('vm1', 200);
  return { ...system, proxy, upstream, running };
}

async function equalAtTheEnd(scope: Scope, { running, agent, hub, upstream }: Scene): Promise<void> {
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  await expectReplica(scope, upstream.uri, hub);
}

test('cut and back at once: resumed from the window, nothing is resynced', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const here = await scene(scope);
  const before = await here.agent.status();
  for (let round = 0; round < 3; round += 1) {
    const connections = here.proxy.connections;
    here.proxy.cut();
    await here.agent.waitFor('a new connection', () => here.proxy.connections > connections);
  }
  await equalAtTheEnd(scope, here);
  const after = await here.agent.status();
  expect(after.lastResync).toEqual(before.lastResync);
  expect(after.counters['copiedBytes']).toBe(before.counters['copiedBytes']);
});

test('cut inside frames, at bytes of every kind: resumed each time', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const here = await scene(scope);
  const before = await here.agent.status();
  // The longest first: when the load is over, only the shortest have still enough bytes to cut in.
  for (const bytes of [100_003, 4096 + 95, 89, 88, 87, 1]) {
    const connections = here.proxy.connections;
    here.proxy.cutAfter(bytes, 'up');
    await here.agent.waitFor(`a connection after the cut at ${bytes}`, () => here.proxy.connections > connections);
  }
  await equalAtTheEnd(scope, here);
  expect((await here.agent.status()).lastResync).toEqual(before.lastResync);
});

test(
  'half-open: the silence is noticed on both sides within the timeout, and healed',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const here = await scene(scope);
    here.proxy.swallow();
    await here.agent.waitFor('the agent to notice', ({ agentConnected }) => !agentConnected, 15_000);
    await here.hub.waitFor(
      'vm1',
      'the hub to notice',
      ({ agentConnected, state }) => !agentConnected && state !== 'protected',
      15_000,
    );
    here.proxy.pass();
    await equalAtTheEnd(scope, here);
  },
);

test(
  'refused for long: the agent pulls ahead, comes back by itself, and sends what changed',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const here = await scene(scope, ['--window', '4MiB']);
    const before = await here.agent.status();
    here.proxy.refuse();
    await here.agent.waitFor(
      'the agent to pull ahead',
      ({ dirtyBytes, agentConnected }) => dirtyBytes > 0 && !agentConnected,
    );
    here.proxy.pass();
    await equalAtTheEnd(scope, here);
    const after = await here.agent.status();
    expect(after.lastResync?.finishedAt).not.toBe(before.lastResync?.finishedAt);
    // Not the whole disk. What the guest writes while it is copied may be copied a second time.
    expect(after.lastResync?.bytesSent).toBeLessThanOrEqual(2 * TOUCHED);
  },
);

test('a slow link holds nothing up for ever: everything arrives', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const here = await scene(scope);
  here.proxy.delay(20);
  await equalAtTheEnd(scope, here);
});
