// There: nodes whose disks differ in size connect; the smaller size wins where it may, else the connection is refused.
// Here: the agent's size is the size. A larger disk is taken as it is; a smaller one is refused before anything is changed, at
// the agent and at the hub, until the operator says --allow-shrink.
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { AgentPlace, compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('a larger disk is taken, a smaller one only by word of the operator', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const disk = await filledDisk(scope, 12 * MiB);
  const { hub, agent } = await startSystem(scope, `file:${disk}`);
  const size = async (): Promise<number | undefined> => (await hub.status('vm1')).volumes[0]?.sizeBytes;
  const same = { verdict: 'same', said: '' };

  await agent.child.stop();
  await truncate(disk, 16 * MiB);
  await agent.start();
  await agent.waitUntilProtected();
  expect(await size()).toBe(16 * MiB);
  expect(await compareWithReplica(scope, disk, hub)).toEqual(same);

  await agent.child.stop();
  await truncate(disk, 8 * MiB);
  await expect(agent.start()).rejects.toThrow(/has 8388608 bytes, its marks are of one with 16777216/);
  expect(agent.child.exit?.code).toBe(2);
  expect(agent.child.output).toContain('--allow-shrink');
  expect(await size()).toBe(16 * MiB);

  const place = { volumes: agent.volumes, hubUrl: hub.url, stateDir: agent.stateDir };
  const allowed = await AgentPlace.prepare(scope, { ...place, args: ['--allow-shrink'] });
  await allowed.start();
  await allowed.waitUntilProtected();
  expect(await size()).toBe(8 * MiB);
  expect(await compareWithReplica(scope, disk, hub)).toEqual(same);

  // The word was for that once: the next start needs none, and the sizes agree.
  await allowed.child.stop();
  await agent.start();
  expect((await agent.waitUntilProtected()).counters['copiedBytes']).toBe(0);
});

test(
  'the hub refuses a disk smaller than it knows it from an agent that has lost its state',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const disk = await filledDisk(scope, 12 * MiB);
    const { hub, agent } = await startSystem(scope, `file:${disk}`);
    await agent.child.stop();
    await truncate(disk, 8 * MiB);
    const stranger = await AgentPlace.prepare(scope, {
      volumes: agent.volumes,
      hubUrl: hub.url,
      stateDir: join(await tempDir(scope), 'new'),
    });
    await stranger.start();
    const refused = await stranger.waitFor(
      'the refusal',
      ({ state, reason }) => state === 'degraded' || /belongs/.test(reason),
    );
    expect(refused.agentConnected).toBe(false);
    expect((await hub.status('vm1')).volumes[0]?.sizeBytes).toBe(12 * MiB);
  },
);
