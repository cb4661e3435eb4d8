// BOUND, FULL: a hub whose disk is full cannot answer for what it cannot take; a verification ends and says so.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { must } from '../kit/process.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { leaveFree, smallDisk } from '../kit/small-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('a verification against a hub with a full disk ends: could not tell, and why', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const disk = await smallDisk(scope, 300 * MiB);
  const { hub, agent } = await protectedDisk(scope, 32 * MiB, {
    hub: { dataDir: join(disk, 'data'), args: ['--reserve', '32MiB'] },
  });
  await hub.waitFor('vm1', 'protection', ({ state }) => state === 'protected');
  await leaveFree(disk, 0);
  await must('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 24M', agent.uri()]);
  await hub.waitFor('vm1', 'the hub to take nothing', ({ reason }) => reason.includes('disk-full'));
  for (const [program, args] of [
    ['rephub', ['verify', 'vm1', '--http', hub.http]],
    ['repagent', ['verify', '--state', agent.stateDir]],
  ] as const) {
    const said = await command(program, args);
    expect(said).toMatchObject({ code: 75 });
    expect(said.stdout + said.stderr).toMatch(/could not tell[^]*disk-full/);
  }
});
