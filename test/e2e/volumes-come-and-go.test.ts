// SIZE, PIT, NOFULL: the volumes of a VM change between two starts of the agent: one goes from the middle, one comes in
// front, the rest change places. What is open from before stays whole, what stays is not sent again.
import { readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { compareFiles, copyOf } from '../kit/contents.js';
import { expectReplica, expectSame } from '../kit/expectations.js';
import { load, startLoad } from '../kit/load.js';
import { nbdkit, qemuNbd, sparseFile } from '../kit/peers.js';
import { AgentPlace, HubPlace, type VolumePlace } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 12 * MiB;

test('three volumes lose the one in the middle and get one in front, under load', { timeout: 180_000 }, async () => {
  const scope = testScope();
  const hub = await HubPlace.prepare(scope, { args: ['--retention', '0'] });
  await hub.start();
  const system = await qemuNbd(scope, await sparseFile(scope, SIZE));
  const swap = await nbdkit(scope, ['memory', '12M']);
  const data = `file:${await sparseFile(scope, SIZE)}`;
  const fresh = await qemuNbd(scope, await sparseFile(scope, SIZE));
  const place = async (names: Readonly<Record<string, string>>, stateDir?: string): Promise<AgentPlace> => {
    const volumes: VolumePlace[] = Object.entries(names).map(([name, upstream]) => ({ name, upstream }));
    const agent = await AgentPlace.prepare(scope, {
      volumes,
      hubUrl: hub.url,
      args: ['--start-sample', '8'],
      ...(stateDir === undefined ? {} : { stateDir }),
    });
    await agent.start();
    return agent;
  };
  const writes = { pattern: 'randwrite', blockBytes: 4096, depth: 8, sizeBytes: SIZE } as const;

  const first = await place({ system: system.uri, swap: swap.uri, data });
  for (const name of ['system', 'swap', 'data']) await load(first.uri(name), { ...writes, extra: ['--io_size=2M'] });
  await first.waitUntilProtected();
  const kept = await command('failover-test', [
    'vm1',
    '--http',
    hub.http,
    '--name',
    'before',
    '--check',
    'true',
    '--keep',
  ]);
  expect(kept, kept.stdout + kept.stderr).toMatchObject({ code: 0 });
  const before = new Map<string, string>();
  for (const name of ['swap', 'data']) before.set(name, await copyOf(scope, hub.uri('vm1', name)));
  await first.child.stop();

  await load(fresh.uri, { ...writes, extra: ['--io_size=2M'] });
  const second = await place({ fresh: fresh.uri, data, system: system.uri }, first.stateDir);
  const running = await startLoad(scope, second.uri('system'), { ...writes, seconds: 3, ratePerSecond: 500, seed: 7 });
  await second.waitFor('the new one is there', ({ lastResync, state }) => state === 'protected' && lastResync !== null);
  const { bytesSent, bytesCompared } = (await second.status()).lastResync ?? {};
  await running.finished();
  await second.waitUntilProtected();
  // Nothing but what is new.
  expect(Math.max(bytesSent ?? Infinity, bytesCompared ?? Infinity)).toBeLessThanOrEqual(SIZE);
  expect((await hub.status('vm1')).volumes.map(({ name }) => name).sort()).toEqual(['data', 'fresh', 'system']);
  for (const [name, uri] of [
    ['system', system.uri],
    ['fresh', fresh.uri],
  ] as const) {
    await expectReplica(scope, uri, hub, 'vm1', name);
  }
  for (const [name, copy] of before) {
    expectSame(await compareFiles(copy, await copyOf(scope, hub.uri('vm1', name, '!before'))));
  }

  // Another order, after a crash: marks are found by name.
  await load(second.uri('data'), { ...writes, seed: 9, extra: ['--io_size=1M'] });
  await second.child.killHard();
  const third = await place({ system: system.uri, fresh: fresh.uri, data }, first.stateDir);
  await third.waitUntilProtected();
  await expectReplica(scope, data.slice('file:'.length), hub, 'vm1', 'data');
  await expectReplica(scope, system.uri, hub, 'vm1', 'system');
  const dropped = await command('rephub', ['test', 'drop', 'vm1', 'before', '--http', hub.http]);
  expect(dropped, dropped.stdout + dropped.stderr).toMatchObject({ code: 0 });
  await third.child.stop();
  await hub.child.stop();
  const left = await readdir(dirname(hub.baseFile('vm1', 'system')));
  expect(left.filter((name) => name.startsWith('swap')).join(' ')).toMatch(/^swap\.raw\.removed-\d+$/);
});
