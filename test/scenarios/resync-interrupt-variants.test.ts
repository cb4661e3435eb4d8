// There: a resync or a verification is interrupted, in every way, and goes on after the connection is back.
// Here: kinds of resync × ways of interruption, with the guest writing over the same blocks; both sides are equal at the end,
// and a verification that was interrupted has not called anything the same that it did not see.
import { expect, test } from 'vitest';
import { type Cluster } from '../sim/cluster.js';
import {
  expectEqual,
  MIB,
  outage,
  protectedCluster,
  resyncing,
  settled,
  SMALL_WINDOW,
  status,
  write,
} from './scene.js';

const SIZE = 8 * MIB;
const SLOW = { ...SMALL_WINDOW, maxBytesPerSecond: 4 * MIB, verifyBytesPerSecond: 4 * MIB };

const kinds: Readonly<Record<string, (cluster: Cluster) => Promise<void>>> = {
  'by bitmap': async (cluster) => {
    await outage(cluster, async () => {
      await write(cluster, 0, 5 * MIB, 'in the outage');
    });
    await resyncing(cluster, MIB);
  },
  'by checksum': async (cluster) => {
    await cluster.run(cluster.agent?.resync(true, true) ?? Promise.resolve());
    await resyncing(cluster, MIB);
  },
  'in full': async (cluster) => {
    await cluster.run(cluster.agent?.resync(true) ?? Promise.resolve());
    await resyncing(cluster, MIB);
  },
  'for a verification': async (cluster) => {
    cluster.agent?.verify();
    await cluster.clock.runUntil(() => (status(cluster).verify?.bytesSame ?? 0) > 0);
  },
};

const ways: Readonly<Record<string, (cluster: Cluster) => Promise<void>>> = {
  'the link is cut': (cluster) => {
    cluster.cutLink();
    return Promise.resolve();
  },
  'the hub loses power': async (cluster) => {
    cluster.killHub('mixed');
    await cluster.clock.advance(300);
    await cluster.startHub();
  },
  'the agent is killed': async (cluster) => {
    cluster.killAgent('keep');
    await cluster.clock.advance(300);
    await cluster.startAgent();
  },
  'the agent loses power': async (cluster) => {
    cluster.killAgent('mixed');
    await cluster.startAgent();
  },
};

for (const [kind, begin] of Object.entries(kinds)) {
  for (const [way, interrupt] of Object.entries(ways)) {
    test(`${kind}, when ${way}`, async () => {
      const cluster = await protectedCluster({ diskBytes: SIZE, agent: SLOW, linkLatencyMs: 1 });
      await write(cluster, 0, 7 * MIB, 'before');
      await settled(cluster);
      await begin(cluster);
      await cluster.work(30, 6 * MIB);
      const verifying = status(cluster).verify;
      await interrupt(cluster);
      await cluster.work(30, 6 * MIB);
      await settled(cluster);
      await expectEqual(cluster);
      if (kind !== 'for a verification') return;
      await cluster.clock.runUntil(() => {
        const { verify } = status(cluster);
        return verify === null || verify.finishedAt !== null;
      });
      const { verify } = status(cluster);
      if (verify?.id === verifying?.id) {
        expect((verify?.bytesSame ?? 0) + (verify?.bytesUnknown ?? 0)).toBe(SIZE);
      }
      expect(verify?.bytesDiffer ?? 0).toBe(0);
    });
  }
}
