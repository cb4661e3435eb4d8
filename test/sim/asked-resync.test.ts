/** A resync that an operator has asked for is carried out as it was asked for, also by the agent's next process. */
import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { cooled } from './settled.js';

const MIB = 1024 * 1024;
const DISK = 8 * MIB;

/** Disks full of data that the hub holds. */
async function protectedCluster(volumes: readonly string[]): Promise<Cluster> {
  const cluster = new Cluster({ seed: 9, diskBytes: DISK, volumes, agent: { maxBytesPerSecond: 4 * MIB } });
  await cluster.makeDisks();
  const fill = async (): Promise<void> => {
    for (const name of volumes) {
      const file = await cluster.agentHost.files.open(`/${name}.raw`, 'write');
      await file.write([Buffer.alloc(DISK, `content of ${name} `)], 0);
      await file.sync();
      await file.close();
    }
  };
  await cluster.run(fill());
  await cluster.startHub();
  await cluster.startAgent();
  await cooled(cluster);
  return cluster;
}

const FATES = ['keep', 'lose'] as const;

describe('a full resync that is cut by a crash of the agent', () => {
  it.each(FATES)('sends in full what was not durable yet, of all volumes (%s)', async (fate) => {
    const cluster = await protectedCluster(['root', 'data']);
    void cluster.agent?.resync(true);
    // Some of the first volume is done and acknowledged, the second one has not been begun.
    await cluster.clock.runUntil(() => (cluster.agent?.status().resync?.bytesDone ?? 0) > 2 * MIB);
    await cluster.clock.advance(1000);
    cluster.killAgent(fate);
    await cluster.startAgent();
    const leftBytes = cluster.agent?.status().dirtyBytes ?? 0;
    expect(leftBytes).toBeGreaterThan(DISK);
    await cooled(cluster);
    const last = cluster.agent?.status().lastResync;
    expect(last?.cause).toMatch(/^full: asked for by the operator; gone on with \(resync-by-bitmap: /);
    expect([last?.bytesCompared, last?.bytesSent]).toEqual([0, leftBytes]);
    // What it sent is counted with its cause, at both sides; the hub has counted what was sent before the crash too.
    const counted = { sentBytes: leftBytes, comparedBytes: 0, ended: 1 };
    expect(cluster.agent?.status().resyncsByCause).toEqual({ full: counted });
    const [group] = cluster.hub?.hub.groups ?? [];
    expect(group?.counters.resyncs['first-sync']).toMatchObject({ sentBytes: 2 * DISK, ended: 1 });
    expect(group?.counters.resyncs.full?.sentBytes).toBeGreaterThanOrEqual(2 * DISK);
    expect(group?.counters.resyncs.full?.ended).toBe(1);
    // It is over: what another crash leaves hot is compared.
    await cluster.work(50);
    cluster.killAgent(fate);
    await cluster.startAgent();
    await cooled(cluster);
    const after = cluster.agent?.status().lastResync;
    expect(after?.cause).toMatch(/^resync-by-bitmap: /);
    expect(after?.bytesCompared).toBeGreaterThan(0);
  });

  it('is one at whatever moment that was since it was asked for', async () => {
    const cluster = await protectedCluster(['disk0']);
    let fulls = 0;
    for (let afterMs = 0; afterMs < 10; afterMs += 0.25) {
      // What says that the one before is over is on the disk.
      await cluster.clock.advance(1000);
      let isAnswered = false;
      void cluster.agent?.resync(true).then(() => (isAnswered = true));
      await cluster.clock.advance(afterMs);
      cluster.killAgent('lose');
      await cluster.startAgent();
      await cooled(cluster);
      const last = cluster.agent?.status().lastResync;
      // From when it was answered, or its note was on the disk, all is sent.
      if (last?.cause.startsWith('full: ') === true) {
        fulls += 1;
        expect([last.bytesCompared, last.bytesSent], `killed ${afterMs} ms after`).toEqual([0, DISK]);
      } else expect(isAnswered, `killed ${afterMs} ms after`).toBe(false);
    }
    expect(fulls).toBeGreaterThan(3);
  });

  it('sends in full when the marks are lost too', async () => {
    const cluster = await protectedCluster(['disk0']);
    void cluster.agent?.resync(true);
    await cluster.clock.runUntil(() => (cluster.agent?.status().resync?.bytesDone ?? 0) > 2 * MIB);
    cluster.killAgent('keep');
    await cluster.run(cluster.agentHost.files.remove('/state/hot.log'));
    await cluster.startAgent();
    await cooled(cluster);
    const { tracking, lastResync } = cluster.agent?.status() ?? {};
    expect([tracking?.found, lastResync?.bytesCompared, lastResync?.bytesSent]).toEqual(['untrusted', 0, DISK]);
  });

  it('asked to be by comparing, it goes on by comparing, and says who asked', async () => {
    const cluster = await protectedCluster(['disk0']);
    void cluster.agent?.resync(false, true);
    await cluster.clock.runUntil(() => (cluster.agent?.status().resync?.bytesDone ?? 0) > 2 * MIB);
    cluster.killAgent('keep');
    await cluster.startAgent();
    await cooled(cluster);
    const last = cluster.agent?.status().lastResync;
    expect(last?.cause).toMatch(/^compare: asked for by the operator; gone on with/);
    expect(last?.bytesSent).toBe(0);
    expect(last?.bytesCompared).toBeGreaterThan(4 * MIB);
  });
});
