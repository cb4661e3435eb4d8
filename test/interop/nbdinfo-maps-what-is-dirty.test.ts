// The metadata context rephub:dirty tells what a resync would send.
import { expect, it } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { qemuNbd } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MIB = 1024 * 1024;
const DIRTY = 1;

interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

async function dirtyExtents(uri: string): Promise<Extent[]> {
  const map = JSON.parse(await must('nbdinfo', ['--map=rephub:dirty', '--json', uri])) as readonly Extent[];
  return map.filter(({ type }) => (type & DIRTY) !== 0);
}

function total(extents: readonly Extent[]): number {
  return extents.reduce((sum, { length }) => sum + length, 0);
}

it('nbdinfo --map=rephub:dirty shows what was written while the hub was away', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const upstream = await qemuNbd(scope, await filledDisk(scope, 128 * MIB));
  const { hub, agent } = await startSystem(scope, upstream.uri, { agent: { args: ['--window', '1MiB'] } });
  expect(await dirtyExtents(agent.uri())).toEqual([]);
  const contexts = await must('nbdinfo', ['--json', agent.uri()]);
  expect(contexts).toContain('rephub:dirty');
  expect(contexts).toContain('base:allocation');

  await hub.child.killHard();
  const writes = Array.from({ length: 16 }, (_, index) => ['-c', `write -P 0x5a ${32 + 2 * index}M 1M`]).flat();
  await must('qemu-io', ['-f', 'raw', ...writes, agent.uri()]);
  const { dirtyBytes } = await agent.waitFor('the agent to pull ahead', (status) => status.dirtyBytes >= 14 * MIB);
  const dirty = await dirtyExtents(agent.uri());
  expect(total(dirty)).toBe(dirtyBytes);
  expect(total(dirty)).toBeLessThanOrEqual(16 * MIB);
  for (const { offset, length } of dirty) {
    expect(offset).toBeGreaterThanOrEqual(32 * MIB);
    expect(offset % (2 * MIB)).toBeLessThan(MIB);
    expect(length).toBeLessThanOrEqual(MIB);
  }

  await hub.start();
  const { lastResync } = await agent.waitUntilProtected();
  expect(lastResync?.bytesSent).toBeLessThanOrEqual(dirtyBytes);
  expect(await dirtyExtents(agent.uri())).toEqual([]);
});
