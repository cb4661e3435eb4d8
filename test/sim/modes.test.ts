import { NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { BLOCK, Cluster, type ClusterOptions } from './cluster.js';

const MIB = 1024 * 1024;

async function clusterIn(
  mode: 'async' | 'semi-sync' | 'sync',
  options: Partial<ClusterOptions> = {},
  onDisconnect: 'continue' | 'freeze' = 'continue',
): Promise<Cluster> {
  const cluster = new Cluster({ seed: 1, diskBytes: 8 * MIB, agent: { mode, onDisconnect }, ...options });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  await cluster.clock.runUntil(() => cluster.agent?.status().effectiveMode === mode);
  return cluster;
}

/** Writes to one block after the other until told to stop, some in flight at once; knows what was answered. */
class Writer {
  readonly answered = new Map<number, Buffer>();
  readonly failed: unknown[] = [];
  #stopped = false;
  #serial = 0;

  async run(cluster: Cluster, lanes: number): Promise<void> {
    await Promise.all(Array.from({ length: lanes }, (_, lane) => this.#lane(cluster, lane, lanes)));
  }

  stop(): void {
    this.#stopped = true;
  }

  async #lane(cluster: Cluster, lane: number, lanes: number): Promise<void> {
    const client = await cluster.guest('disk0');
    for (let at = lane; !this.#stopped && at < 1500; at += lanes) {
      const bytes = Buffer.alloc(BLOCK, `write ${this.#serial++};`);
      try {
        await writeBytes(client, at * BLOCK, bytes, false);
      } catch (fault) {
        this.failed.push(fault);
        return;
      }
      this.answered.set(at, bytes);
    }
  }
}

describe('modes (promise ACK)', () => {
  for (const [mode, fate] of [
    ['sync', 'lose'],
    ['sync', 'mixed'],
    ['semi-sync', 'keep'],
  ] as const) {
    it(`${mode}: whatever was answered is at the hub, though agent and hub die at once (fate ${fate})`, async () => {
      for (let seed = 1; seed <= 6; seed++) {
        const cluster = await clusterIn(mode, { seed, linkLatencyMs: 2 });
        const writer = new Writer();
        const writing = writer.run(cluster, 6);
        await cluster.clock.runUntil(() => writer.answered.size >= 30 * seed);
        cluster.killHub(fate);
        cluster.killAgent('keep');
        const answered = new Map(writer.answered);
        writer.stop();
        await cluster.run(writing);
        await cluster.startHub();
        const replica = await cluster.replica('disk0');
        for (const [block, bytes] of answered) {
          const there = replica.subarray(block * BLOCK, (block + 1) * BLOCK);
          expect(there.equals(bytes), `seed ${seed}, block ${block}`).toBe(true);
        }
      }
    });
  }

  it('sync: a dead hub is waited for until it counts as dead; then writes go on, and it is said', async () => {
    const cluster = await clusterIn('sync');
    const client = await cluster.guest('disk0');
    cluster.silenceHub(true);
    for (const link of cluster.agentHost.network.links()) if (link.address.includes('9010')) link.freeze();
    let answered = false;
    const write = writeBytes(client, 0, Buffer.alloc(BLOCK, 7), false).then(() => {
      answered = true;
    });
    await cluster.clock.advance(3_000);
    expect(answered).toBe(false);
    await cluster.run(write, 10_000);
    expect(cluster.agent?.status().mode).toBe('sync');
    expect(cluster.agent?.status().effectiveMode).toBe('async');
    await cluster.run(writeBytes(client, BLOCK, Buffer.alloc(BLOCK, 8), false), 1_000);
    for (const link of cluster.agentHost.network.links()) link.cut();
    cluster.silenceHub(false);
    await cluster.clock.runUntil(() => cluster.agent?.status().effectiveMode === 'sync');
    expect(cluster.agent?.status().lagBytes).toBe(0);
  });

  it('freeze: writes wait for the hub, reads do not; nothing is lost of what waited', async () => {
    for (const mode of ['async', 'sync'] as const) {
      const cluster = await clusterIn(mode, {}, 'freeze');
      const client = await cluster.guest('disk0');
      await cluster.run(writeBytes(client, 0, Buffer.alloc(BLOCK, 1), false));
      cluster.silenceHub(true);
      cluster.cutLink();
      await cluster.clock.advance(10);
      const waiting = writeBytes(client, 0, Buffer.alloc(BLOCK, 2), false);
      let over = false;
      void waiting.then(() => {
        over = true;
      });
      await cluster.clock.advance(60_000);
      expect(over, mode).toBe(false);
      expect((await cluster.run(readBytes(client, 0, BLOCK)))[0], mode).toBe(1);
      cluster.silenceHub(false);
      await cluster.run(waiting, 60_000);
      expect((await cluster.run(readBytes(client, 0, BLOCK)))[0], mode).toBe(2);
      await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
      expect((await cluster.replica('disk0'))[0], mode).toBe(2);
    }
  });

  it('freeze: an operator who pauses mirroring lets writes go on; a stop answers what waits', async () => {
    const cluster = await clusterIn('async', {}, 'freeze');
    const client = await cluster.guest('disk0');
    cluster.silenceHub(true);
    cluster.cutLink();
    await cluster.clock.advance(10);
    const first = writeBytes(client, 0, Buffer.alloc(BLOCK, 2), false);
    await cluster.run(cluster.agent?.pause() ?? Promise.resolve());
    await cluster.run(first, 1_000);
    await cluster.run(cluster.agent?.resume() ?? Promise.resolve());
    const second = writeBytes(client, 0, Buffer.alloc(BLOCK, 3), false);
    const refused = expect(second).rejects.toMatchObject({ nbdError: NbdError.Eshutdown });
    expect(await cluster.stopAgent()).toBe(true);
    await refused;
  });

  it.each(['freeze', 'continue'] as const)(
    '%s: where mirroring has stopped for a fault of ours',
    async (onDisconnect) => {
      const cluster = await clusterIn('async', {}, onDisconnect);
      const client = await cluster.guest('disk0');
      await cluster.run(writeBytes(client, 0, Buffer.alloc(BLOCK, 1), false));
      cluster.agent?.failMirroring(new Error('planted'));
      let isAnswered = false;
      const write = writeBytes(client, 0, Buffer.alloc(BLOCK, 2), false).then(() => {
        isAnswered = true;
      });
      await cluster.clock.advance(60_000);
      const isFrozen = onDisconnect === 'freeze';
      const waiting = isFrozen ? "; guests' writes wait (on-disconnect freeze), repagent pause lets them go on" : '';
      const reason = `mirroring has stopped: planted${waiting}`;
      expect([isAnswered, cluster.agent?.status().reason]).toEqual([!isFrozen, reason]);
      expect((await cluster.run(readBytes(client, 0, BLOCK)))[0]).toBe(isFrozen ? 1 : 2);
      // An operator's word: the guest matters more now.
      if (isFrozen) await cluster.run(cluster.agent?.pause() ?? Promise.resolve());
      await cluster.run(write, 1_000);
      // Whatever was written meanwhile is marked: the next start makes it good.
      await cluster.stopAgent();
      await cluster.startAgent();
      await cluster.run(cluster.agent?.resume() ?? Promise.resolve());
      await cluster.waitProtected();
      await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
      expect((await cluster.replica('disk0'))[0]).toBe(2);
    },
  );

  it('can be changed while the guest writes', async () => {
    const cluster = await clusterIn('async');
    const working = cluster.work(600);
    for (const mode of ['sync', 'semi-sync', 'async', 'sync'] as const) {
      cluster.agent?.setMode(mode);
      await cluster.clock.runUntil(() => cluster.agent?.status().effectiveMode === mode);
    }
    await working;
    expect(cluster.agent?.status().effectiveMode).toBe('sync');
    expect(Buffer.compare(await cluster.replica('disk0'), await cluster.upstream('disk0'))).toBe(0);
  });
});
