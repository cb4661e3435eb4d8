// Two VMs on one hub, and a VM with two disks: each replica is its own disk's.
import { expect, test } from 'vitest';
import { load } from '../kit/load.js';
import { nbdkit, qemuNbd, sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { AgentPlace, HubPlace } from '../kit/rephub-system.js';
import { expectReplica } from '../kit/expectations.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('two groups at once on one hub, one killed: neither disturbs the other', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const disks = [await qemuNbd(scope, await sparseFile(scope, 32 * MiB)), await nbdkit(scope, ['memory', '48M'])];
  const agents: AgentPlace[] = [];
  for (const [index, disk] of disks.entries()) {
    agents.push(
      await AgentPlace.prepare(scope, {
        group: `vm${index + 1}`,
        volumes: [{ name: 'disk0', upstream: disk.uri }],
        hubUrl: hub.url,
      }),
    );
  }
  for (const agent of agents) await agent.start();
  for (const agent of agents) await agent.waitUntilProtected();
  await Promise.all(
    agents.map(
      async (agent, index) =>
        await load(agent.uri(), {
          sizeBytes: 16 * MiB,
          verify: true,
          seed: index + 1,
        }),
    ),
  );
  await agents[0]!.child.killHard();
  await load(agents[1]!.uri(), { pattern: 'write', blockBytes: 65_536, depth: 4, sizeBytes: 16 * MiB });
  await agents[1]!.waitUntilProtected();
  await agents[0]!.start();
  await agents[0]!.waitUntilProtected();
  for (const [index, disk] of disks.entries()) {
    await expectReplica(scope, disk.uri, hub, `vm${index + 1}`);
  }
});

test('two volumes of one group behind one listener', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const file = await sparseFile(scope, 24 * MiB);
  const system = await nbdkit(scope, ['memory', '32M']);
  const agent = await AgentPlace.prepare(scope, {
    volumes: [
      { name: 'system', upstream: system.uri },
      { name: 'data-1', upstream: `file:${file}` },
    ],
    hubUrl: hub.url,
  });
  await agent.start();
  await agent.waitUntilProtected();
  expect((await must('nbdinfo', ['--size', agent.uri('data-1')])).trim()).toBe(String(24 * MiB));
  await Promise.all(
    ['system', 'data-1'].map(
      async (name, index) =>
        await load(agent.uri(name), {
          blockBytes: 8192,
          sizeBytes: 16 * MiB,
          verify: true,
          seed: index + 1,
        }),
    ),
  );
  await agent.waitUntilProtected();
  expect((await hub.status('vm1')).volumes).toMatchObject([
    { name: 'system', sizeBytes: 32 * MiB },
    { name: 'data-1', sizeBytes: 24 * MiB },
  ]);
  await expectReplica(scope, system.uri, hub, 'vm1', 'system');
  await expectReplica(scope, file, hub, 'vm1', 'data-1');
});
