/**
 * A volume grows under a running agent, and the host of the agent, or that of the hub, loses power at the 1st, 2nd, … n-th
 * change of its disk from then on, with writes under way: what is left must converge (SUPERSET, SIZE, LASTGOOD).
 */
import type { CrashFate, SimFiles } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { settled } from './settled.js';

const MIB = 1024 * 1024;
const SMALLER = 2 * MIB;
const LARGER = 6 * MIB + 4096;
const FATES: readonly CrashFate[] = ['mixed', 'lose', 'tear', 'keep', 'garble'];

const hasGrown = (cluster: Cluster): boolean => cluster.agent?.status().volumes[0]?.sizeBytes === LARGER;

/** In step, the file just made larger, the look that will find that still to come. */
async function aboutToGrow(seed: number): Promise<Cluster> {
  const cluster = new Cluster({ seed, diskBytes: SMALLER });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await settled(cluster);
  await cluster.work(40);
  await settled(cluster);
  const grow = async (): Promise<void> => {
    const file = await cluster.agentHost.files.open('/disk0.raw', 'write');
    await file.truncate(LARGER);
    await file.write([Buffer.alloc(8192, 0x77)], 4 * MIB);
    await file.sync();
    await file.close();
  };
  await cluster.run(grow());
  return cluster;
}

/** Until the disk has gone, or all is done; the guest writes now and then. */
async function goOn(cluster: Cluster, files: SimFiles): Promise<void> {
  const isOver = (): boolean => files.crashed || (hasGrown(cluster) && cluster.agent?.status().state === 'protected');
  for (let round = 0; round < 400 && !isOver(); round++) {
    if (round % 40 === 10) await cluster.work(2).catch(() => undefined);
    await cluster.clock.advance(50);
  }
  if (!files.crashed) await cluster.clock.runUntil(isOver, 60_000);
}

async function expectEqual(cluster: Cluster, point: number): Promise<void> {
  await cluster.clock.runUntil(() => hasGrown(cluster), 60_000);
  await settled(cluster);
  const upstream = await cluster.upstream('disk0');
  expect(upstream.length, `point ${point}`).toBe(LARGER);
  expect(upstream.subarray(4 * MIB, 4 * MIB + 8192).equals(Buffer.alloc(8192, 0x77))).toBe(true);
  expect(Buffer.compare(await cluster.replica('disk0'), upstream), `point ${point}`).toBe(0);
}

it('at every change of the agent’s disk', { timeout: 120_000 }, async () => {
  let points = 0;
  for (let point = 1; ; point++) {
    const cluster = await aboutToGrow(point);
    const { files } = cluster.agentHost;
    const seen = { wasUsed: false };
    files.onCrash = () => {
      seen.wasUsed = hasGrown(cluster);
      cluster.killAgent(FATES[point % FATES.length] ?? 'mixed');
    };
    files.crashAt(files.changes + point);
    await goOn(cluster, files);
    if (!files.crashed) break;
    points = point;
    await cluster.startAgent();
    // Grown before it went: its marks are of the new size, and are believed.
    if (seen.wasUsed) expect(cluster.agent?.status().tracking.found, `point ${point}`).toBe('marked');
    await expectEqual(cluster, point);
    await cluster.stopAgent();
    await cluster.stopHub(false);
  }
  expect(points).toBeGreaterThan(5);
});

it('at every change of the hub’s disk', { timeout: 120_000 }, async () => {
  let points = 0;
  for (let point = 1; ; point++) {
    const cluster = await aboutToGrow(point);
    const files = cluster.hubFiles;
    files.onCrash = () => {
      cluster.killHub(FATES[point % FATES.length] ?? 'mixed');
    };
    files.crashAt(files.changes + point);
    await goOn(cluster, files);
    if (!files.crashed) break;
    points = point;
    await cluster.startHub();
    const held = (await cluster.replica('disk0')).length;
    expect([SMALLER, LARGER], `LASTGOOD, point ${point}`).toContain(held);
    await expectEqual(cluster, point);
    await cluster.stopAgent();
    await cluster.stopHub(false);
  }
  expect(points).toBeGreaterThan(3);
});
