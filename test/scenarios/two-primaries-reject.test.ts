// LINEAGE: one group has one agent. The same one with a newer session replaces its own old session at once; another
// identity, or a copied state directory, is refused with a reason.
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CuttingProxy } from '../kit/cutting-proxy.js';
import { sparseFile } from '../kit/peers.js';
import { AgentPlace, startSystem } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test(
  'another agent for the same group is refused with a reason; the first stays protected',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`);
    const other = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: `file:${await sparseFile(scope, 16 * MiB)}` }],
      hubUrl: hub.url,
    });
    await other.start();
    const refused = await other.waitFor(
      'the refusal',
      ({ state, reason }) => state === 'unprotected' && /belongs to agent/.test(reason),
    );
    // What the hub has is none of its disks.
    expect(refused).toMatchObject({ agentConnected: false, rpoSeconds: null, lagBytes: null });
    await agent.waitUntilProtected();
    await hub.waitFor('vm1', 'protected', ({ state }) => state === 'protected');
  },
);

test(
  'an agent whose group another one has taken over says that it is unprotected, whatever it had before (RPO)',
  { timeout: 90_000 },
  async () => {
    const scope = testScope();
    let proxy: CuttingProxy | undefined;
    const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`, {
      hubUrl: async (place) => {
        proxy = await CuttingProxy.start(scope, { port: place.linkPort });
        return `tcp://127.0.0.1:${proxy.port}`;
      },
    });
    // Only its link goes: it lives on, with the last session in its mind.
    proxy?.refuse();
    proxy?.cut();
    await agent.waitFor('the loss', ({ agentConnected }) => !agentConnected);
    const enrolled = await fetch(`http://${hub.http}/api/v1/groups/vm1/enroll`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    expect(enrolled.status).toBeLessThan(300);
    const other = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: `file:${await sparseFile(scope, 16 * MiB)}` }],
      hubUrl: hub.url,
    });
    await other.start();
    await other.waitUntilProtected();
    proxy?.pass();
    const told = await agent.waitFor('the refusal', ({ state }) => state === 'unprotected');
    expect(told).toMatchObject({ agentConnected: false, rpoSeconds: null, lagBytes: null });
    expect(told.reason).toMatch(/belongs to agent/);
  },
);

test(
  'a newer session of the same agent replaces an old one that the hub still believes in, at once',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    let proxy: CuttingProxy | undefined;
    const upstream = `file:${await sparseFile(scope, 16 * MiB)}`;
    const { hub, agent } = await startSystem(scope, upstream, {
      hubUrl: async (place) => {
        proxy = await CuttingProxy.start(scope, { port: place.linkPort });
        return `tcp://127.0.0.1:${proxy.port}`;
      },
    });
    // Half-open: the hub does not learn that the old agent has died.
    proxy?.swallow();
    await agent.child.killHard();
    const again = await AgentPlace.prepare(scope, {
      volumes: agent.volumes,
      stateDir: agent.stateDir,
      hubUrl: hub.url,
    });
    const started = performance.now();
    await again.start();
    await again.waitUntilProtected();
    // The heartbeat's timeout is 5 s: it was not waited for.
    expect(performance.now() - started).toBeLessThan(4500);
  },
);

test('a copied state directory is refused', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { hub, agent } = await startSystem(scope, `file:${await sparseFile(scope, 16 * MiB)}`);
  await agent.child.stop();
  const copy = join(await tempDir(scope), 'copy');
  await cp(agent.stateDir, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  await agent.start();
  await agent.waitUntilProtected();
  const twin = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: `file:${await sparseFile(scope, 16 * MiB)}` }],
    stateDir: copy,
    hubUrl: hub.url,
  });
  await twin.start();
  const refused = await twin.waitFor('the refusal', ({ state }) => state === 'degraded');
  expect(refused.reason).toMatch(/session|copied|state/i);
  await agent.waitUntilProtected();
});
