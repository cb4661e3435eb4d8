// Upstreams of other makers that cannot be protected: said at start, named.
import { expect, test } from 'vitest';
import { nbdkit, nbdServer, type Peer, sparseFile } from '../kit/peers.js';
import { AgentPlace } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { testScope } from '../kit/test-scope.js';

const cases: readonly (readonly [what: string, start: (scope: Scope) => Promise<Peer>, said: RegExp])[] = [
  ['read-only', async (scope) => await nbdkit(scope, ['-r', 'memory', '16M']), /read-only/],
  ['empty', async (scope) => await nbdkit(scope, ['memory', '0']), /empty|no bytes/],
  ['not a multiple of 512', async (scope) => await nbdkit(scope, ['memory', '1000']), /1000.*512|512.*1000/s],
  [
    'without the export that was named',
    async (scope) => {
      const peer = await nbdServer(scope, await sparseFile(scope, 1 << 20));
      return { ...peer, uri: peer.uri.replace('disk', 'nosuch') };
    },
    /nosuch/,
  ],
];

test.for(cases)('an upstream that is %s', async ([, start, said]) => {
  const scope = testScope();
  const upstream = await start(scope);
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: upstream.uri }],
    args: ['--retries', '0'],
  });
  await expect(agent.start()).rejects.toThrow(said);
  expect(agent.child.exit?.code).toBeGreaterThan(0);
});
