// A group seeded with an old copy of the disk: its first sync compares, and sends what has changed since.
import { expect, test } from 'vitest';
import { copyFile, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { command } from '../kit/commands.js';
import { filledDisk } from '../kit/filled-disk.js';
import { AgentPlace, compareWithReplica, HubPlace } from '../kit/rephub-system.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 96 * MiB;

test(
  'seeded with an old copy, the first sync sends less than 1 %; a second seed is refused',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await filledDisk(scope, SIZE);
    const old = join(await tempDir(scope), 'old.raw');
    await copyFile(disk, old);
    const file = await open(disk, 'r+');
    for (const at of [0, 33 * MiB, SIZE - 512]) await file.write(Buffer.alloc(512, 0xee), 0, 512, at);
    await file.close();

    const hub = await HubPlace.prepare(scope);
    await hub.start();
    const seed = (path: string): ReturnType<typeof command> =>
      command('rephub', ['seed', 'vm1/disk0', path, '--http', hub.http]);
    expect(await seed('/nowhere.raw')).toMatchObject({ code: 2 });
    expect(await seed(old)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/is seeded with 96 ?MiB/) as string,
    });
    expect((await hub.status('vm1')).state).toBe('unprotected');
    // Across a restart too.
    await hub.child.killHard();
    await hub.start();
    expect((await command('rephub', ['groups', '--http', hub.http])).stdout).toMatch(
      /^vm1 +disk0 +96 MiB +unprotected \(seeded, no agent has begun yet\) +-$/m,
    );

    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: `file:${disk}` }],
      hubUrl: hub.url,
    });
    await agent.start();
    const synced = await agent.waitUntilProtected();
    expect(synced.lastResync?.cause).toMatch(/^first sync from a seed/);
    expect(synced.lastResync?.bytesCompared).toBe(SIZE);
    expect(synced.lastResync?.bytesSent).toBeGreaterThan(0);
    expect(synced.lastResync?.bytesSent).toBeLessThan(SIZE / 100);
    expect(synced.counters['streamedBytes']).toBeLessThan(SIZE / 100);
    expect(await compareWithReplica(scope, disk, hub)).toEqual({ verdict: 'same', said: '' });
    const again = await seed(old);
    expect(again.code).not.toBe(0);
    expect(again.stderr).toMatch(/history|connected/);
    await hub.child.killHard();
    await hub.start();
    expect(await compareWithReplica(scope, disk, hub)).toEqual({ verdict: 'same', said: '' });
    expect((await stat(old)).size).toBe(SIZE);
  },
);

test(
  'SIZE: a seed of another size than the volume is refused before anything is changed, and what is said then leads on',
  { timeout: 60_000 },
  async () => {
    const scope = testScope();
    const disk = await filledDisk(scope, 8 * MiB);
    const hub = await HubPlace.prepare(scope);
    await hub.start();
    const small = await filledDisk(scope, 4 * MiB);
    expect(await command('rephub', ['seed', 'vm1/disk0', small, '--http', hub.http])).toMatchObject({ code: 0 });
    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: `file:${disk}` }],
      hubUrl: hub.url,
    });
    await agent.start();
    const status = await agent.waitFor('the refusal', ({ reason }) => reason.includes('seeded with'));
    expect(status.reason).toContain(`${4 * MiB} bytes, the agent's has ${8 * MiB}`);
    expect((await hub.status('vm1')).seq).toBe(0);
    expect(status.reason).toContain("'rephub forget vm1 --yes' takes the seeds away");
    expect(status.reason).toContain("at once after 'repagent resume'");
    expect(await command('rephub', ['forget', 'vm1', '--yes', '--http', hub.http])).toMatchObject({ code: 0 });
    expect(await command('rephub', ['seed', 'vm1/disk0', disk, '--http', hub.http])).toMatchObject({ code: 0 });
    expect(await command('repagent', ['resume', '--state', agent.stateDir])).toMatchObject({ code: 0 });
    // By itself it would ask again after a minute, which is longer than this test may take.
    const synced = await agent.waitUntilProtected(30_000);
    expect(synced.lastResync?.cause).toMatch(/^first sync from a seed/);
  },
);
