// Resync by checksum: where the marks say nothing, hashes cross the link and only blocks that differ. Bytes are counted.
import { expect, test } from 'vitest';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { filledDisk } from '../kit/filled-disk.js';
import { compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 96 * MiB;

/** Bytes of a file changed behind everybody's back. */
async function change(path: string, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, offset);
  await file.close();
}

/** What of a disk is data: the rest are holes, which cost nothing. */
async function dataBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512;
}

test(
  'CORRUPT: a damaged map means that everything is compared; what changed meanwhile is sent, and nothing else',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await filledDisk(scope, SIZE);
    const { hub, agent } = await startSystem(scope, `file:${disk}`);
    const before = await agent.status();
    await agent.child.stop();
    for (const at of [3 * MiB + 17, 40 * MiB, SIZE - 1]) await change(disk, at, Buffer.from([0xa5 ^ (at & 0xff)]));
    await change(join(agent.stateDir, 'disk0.map'), 100, Buffer.from('rot'));
    const streamed = before.counters['streamedBytes'] ?? 0;
    expect(streamed).toBeGreaterThan(0);
    await agent.start();
    const after = await agent.waitUntilProtected();
    expect(after.lastResync?.cause).toMatch(/^compare-everything/);
    const data = await dataBytes(disk);
    expect(after.lastResync?.bytesSent).toBeGreaterThan(0);
    expect(after.lastResync?.bytesSent).toBeLessThan(data / 100);
    expect(after.lastResync?.bytesCompared).toBeGreaterThanOrEqual(data);
    // All that was sent, holes and hashes' frames included.
    expect(after.counters['streamedBytes']).toBeLessThan(data / 100);
    expect(await compareWithReplica(scope, disk, hub)).toEqual({ verdict: 'same', said: '' });
    // The hub learns of it by the next heartbeat.
    const told = await hub.waitFor('vm1', 'the last resync', ({ lastResync }) => lastResync !== null);
    expect(told.lastResync).toEqual(after.lastResync);
  },
);

test(
  'a comparison that was cut by a crash goes on: what was found equal and proven is not looked at again',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await filledDisk(scope, SIZE);
    const { hub, agent } = await startSystem(scope, `file:${disk}`, { agent: { args: ['--max-rate', '12MiB'] } });
    const data = await dataBytes(disk);
    await agent.child.stop();
    await change(join(agent.stateDir, 'disk0.map'), 100, Buffer.from('rot'));
    await agent.start();
    // At 12 MiB a second; what has been compared is proven by a flush and off the disk's marks within three seconds.
    const half = await agent.waitFor('half of it to be compared', ({ resync }) => (resync?.bytesDone ?? 0) > SIZE / 2);
    expect(half.resync).toMatchObject({ cause: expect.stringMatching(/^compare-everything/) as string });
    await agent.child.killHard();
    await agent.start();
    const after = await agent.waitUntilProtected();
    expect(after.lastResync?.bytesSent).toBe(0);
    expect(after.lastResync?.bytesCompared).toBeLessThan(data * 0.9);
    expect(await compareWithReplica(scope, disk, hub)).toEqual({ verdict: 'same', said: '' });
  },
);

test('on command everything is compared, with rate and time left in both statuses', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const disk = await filledDisk(scope, SIZE);
  const { hub, agent } = await startSystem(scope, `file:${disk}`, { agent: { args: ['--max-rate', '24MiB'] } });
  const response = await fetch(`http://${hub.http}/api/v1/groups/vm1/resync`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ compare: true }),
  });
  expect(response.status).toBe(202);
  const running = await hub.waitFor('vm1', 'a resync with a rate', ({ resync }) => {
    return resync?.cause.startsWith('compare') === true && (resync.bytesPerSecond ?? 0) > 0;
  });
  expect(running.resync?.bytesPerSecond).toBeLessThan(40 * MiB);
  expect(running.resync?.etaSeconds).toBeGreaterThan(0);
  expect(running.state).toBe('catching-up');
  const after = await agent.waitUntilProtected();
  expect(after.lastResync).toMatchObject({ bytesSent: 0, cause: 'compare: asked for at the hub' });
});
