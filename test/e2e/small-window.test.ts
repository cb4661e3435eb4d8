// BOUND: a window smaller than a copy of the resync still gets through, only slower.
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { load } from '../kit/load.js';
import { qemuNbd } from '../kit/peers.js';
import { compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

test('the smallest window: first sync, load, equal', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const upstream = await qemuNbd(scope, await filledDisk(scope, 16 * MiB));
  const { hub, agent } = await startSystem(scope, upstream.uri, { agent: { args: ['--window', '1MiB'] } });
  await load(agent.uri(), { pattern: 'randwrite', blockBytes: 65_536, depth: 16, sizeBytes: 16 * MiB });
  await agent.waitUntilProtected();
  expect(await compareWithReplica(scope, upstream.uri, hub)).toEqual({ verdict: 'same', said: '' });
});
