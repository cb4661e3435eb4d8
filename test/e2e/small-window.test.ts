// BOUND: a window smaller than a copy of the resync still gets through, only slower.
import { test } from 'vitest';
import { load } from '../kit/load.js';
import { expectReplica } from '../kit/expectations.js';
import { protectedDisk } from '../kit/protected-disk.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('the smallest window: first sync, load, equal', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const { upstream, hub, agent } = await protectedDisk(scope, 16 * MiB, {
    filled: true,
    agent: { args: ['--window', '1MiB'] },
  });
  await load(agent.uri(), { blockBytes: 65_536, depth: 16, sizeBytes: 16 * MiB });
  await agent.waitUntilProtected();
  await expectReplica(scope, upstream.uri, hub);
});
