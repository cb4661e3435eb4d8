// A hub that is killed and started again on a disk without a free block: no SIGBUS, and no copies of its catalogue.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../kit/process.js';
import { HubPlace } from '../kit/rephub-system.js';
import { MIB } from '../kit/scripted-agent.js';
import { leaveFree, smallDisk } from '../kit/small-disk.js';
import { testScope } from '../kit/test-scope.js';

test('the catalogue on a full disk neither kills the hub nor piles up', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const disk = await smallDisk(scope, 64 * MIB);
  const hub = await HubPlace.prepare(scope, { dataDir: join(disk, 'data') });
  await hub.start();
  for (let round = 0; round < 2; round += 1) {
    await hub.child.killHard();
    await leaveFree(disk, 0);
    // The last blocks, which fallocate leaves.
    await run('dd', ['if=/dev/zero', `of=${join(disk, `last-${round}`)}`, 'bs=4096']);
    await hub.start();
    const names = await readdir(hub.dataDir);
    expect(names.filter((name) => /catalogue\.sqlite(\.damaged-|-shm)/.test(name))).toEqual([]);
  }
});
