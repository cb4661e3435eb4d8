// Of a disk that is a file its agent is the only writer: QEMU and its tools see it so, and so does a second agent.
import { expect, it } from 'vitest';
import { qemuNbd, sparseFile } from '../kit/peers.js';
import { must, run } from '../kit/process.js';
import { AgentPlace, compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

/** What QEMU says to somebody who wants to write. */
const REFUSED = /Failed to get "write" lock/;

it('whoever would write the disk of an agent is refused, whoever reads it is not', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const disk = await sparseFile(scope, 16 * MiB);
  const volumes = [{ name: 'disk0', upstream: `file:${disk}` }];
  const agent = await AgentPlace.prepare(scope, { volumes });
  const reader = await qemuNbd(scope, disk, { args: ['--read-only'] });
  await agent.start();
  await reader.child.stop();
  await must('qemu-io', ['-f', 'raw', '-c', 'write -P 5 0 64k', agent.uri()]);
  for (const [tool, ...args] of [
    ['qemu-io', '-f', 'raw', '-c', 'write -P 9 0 64k', disk],
    ['qemu-img', 'resize', '-f', 'raw', disk, '32M'],
    ['qemu-nbd', '-f', 'raw', '-k', `${agent.stateDir}/nbd.sock`, disk],
  ] as const) {
    expect((await run(tool, args)).stderr, tool).toMatch(REFUSED);
  }
  await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', disk, agent.uri()]);
  await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 5 0 64k', disk]);

  const second = await AgentPlace.prepare(scope, { volumes, args: ['--retries', '0'] });
  await expect(second.start()).rejects.toThrow(/is in use: another agent, a VM or a tool/);

  // What a killed agent held is free at once.
  await agent.child.killHard();
  await must('qemu-io', ['-f', 'raw', '-c', 'write -P 9 0 64k', disk]);
});

it('an agent waits until nobody else writes its disk, and says why', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const disk = await sparseFile(scope, 16 * MiB);
  const other = await qemuNbd(scope, disk);
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: `file:${disk}` }],
    args: ['--wait-upstream', 'yes'],
  });
  const started = agent.start();
  await expect.poll(() => agent.child.output, { timeout: 20_000 }).toContain('upstream-in-use');
  expect(agent.child.output).not.toContain('ready');
  await other.child.stop();
  await started;
  await must('qemu-io', ['-f', 'raw', '-c', 'write -P 5 0 64k', agent.uri()]);
});

it(
  'a VM that was booted from a base image, in an emergency, has it to itself; the hub waits',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await sparseFile(scope, 16 * MiB);
    const { hub, agent } = await startSystem(scope, `file:${disk}`, { hub: { args: ['--retention', '0'] } });
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 5 0 64k', agent.uri()]);
    await agent.waitUntilProtected();
    const base = hub.baseFile('vm1', 'disk0');
    await hub.waitFor('vm1', 'a base image', ({ appliedSeq, seq }) => appliedSeq === seq);
    expect((await run('qemu-io', ['-f', 'raw', '-c', 'write -P 9 0 64k', base])).stderr).toMatch(REFUSED);
    await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 5 0 64k', base]);

    await hub.child.stop();
    const emergency = await qemuNbd(scope, base);
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 9 1M 64k', emergency.uri]);
    await hub.start();
    await hub.waitFor('vm1', 'why it is closed', ({ reason }) => reason.includes('base-in-use'));
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 6 0 64k', agent.uri()]);
    await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 5 0 64k', '-c', 'read -P 9 1M 64k', emergency.uri]);
    await emergency.child.stop();
    // What it wrote is in no log: all is compared, and the replica is what the agent's disk is.
    await hub.child.waitFor('the change to be noticed', () =>
      Promise.resolve(hub.child.output.includes('base-changed')),
    );
    await hub.waitFor('vm1', 'all compared', ({ state }) => state === 'protected');
    await agent.waitUntilProtected();
    expect(agent.child.output).toContain('compare-everything');
    expect((await compareWithReplica(scope, disk, hub)).verdict).toBe('same');
  },
);
