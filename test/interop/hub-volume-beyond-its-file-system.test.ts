// SIZE: a volume that no file of the hub's file system can hold is refused before the first byte, saying what would hold it.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startHub } from '../kit/hub-in-process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { smallDisk } from '../kit/small-disk.js';
import { testScope } from '../kit/test-scope.js';

const TIB = 2 ** 40;

test('SIZE: a volume of 17 TiB is refused by a hub on ext4, one of 3 TiB is not', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const directory = join(await smallDisk(scope, 256 * MIB), 'data');
  const hub = await startHub(scope, { directory });
  const large = new ScriptedAgent(hub.platform, hub.agents, { volumes: [{ name: 'disk0', sizeBytes: 17 * TIB }] });
  await expect(large.begin()).rejects.toThrow(/16 TiB.*xfs/);
  expect((await large.ended()).refuse?.code).toBe('volume-too-big');
  const fitting = new ScriptedAgent(hub.platform, hub.agents, { volumes: [{ name: 'disk0', sizeBytes: 3 * TIB }] });
  await fitting.begin();
});
