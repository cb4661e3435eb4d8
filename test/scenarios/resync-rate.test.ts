// There (tests_special): a resync keeps to its configured rate.
// Here: --max-rate by the time of day: a resync that runs when the window ends goes on at the new rate, and status shows the cap in force.
import { expect, test } from 'vitest';
import { type AgentConfig } from '@rephub/agent';
import { type Cluster } from '../sim/cluster.js';
import {
  copiedBytes,
  expectEqual,
  MIB,
  outage,
  protectedCluster,
  settled,
  SMALL_WINDOW,
  status,
  write,
} from './scene.js';

type RateLimit = AgentConfig['maxBytesPerSecond'];

/** A window that ends at the second full minute from now, on this host's clock. */
function endingSoon(
  cluster: Cluster,
  rate: number,
  otherwise: number,
): { readonly endsInMs: number; readonly schedule: RateLimit } {
  const now = new Date(cluster.clock.unixMs());
  const minute = now.getHours() * 60 + now.getMinutes();
  const toMinute = (minute + 2) % 1440;
  const endsInMs = 120_000 - (now.getSeconds() * 1000 + now.getMilliseconds());
  const windows = [{ days: null, fromMinute: minute, toMinute, rate }];
  return { endsInMs, schedule: { windows, otherwise, text: 'until soon' } };
}

test('a resync goes on at the rate of the hour', async () => {
  const cluster = await protectedCluster({ diskBytes: 24 * MIB, agent: SMALL_WINDOW });
  const { endsInMs, schedule } = endingSoon(cluster, 128 * 1024, 4 * MIB);
  await cluster.stopAgent();
  const begunMs = cluster.clock.monotonicMs();
  cluster.options = { ...cluster.options, agent: { ...SMALL_WINDOW, maxBytesPerSecond: schedule } };
  await cluster.startAgent();
  await cluster.clock.runUntil(() => status(cluster).state === 'protected');
  expect(status(cluster)).toMatchObject({ maxBytesPerSecond: 128 * 1024, maxRateSchedule: 'until soon' });
  await outage(cluster, async () => {
    await write(cluster, 0, 24 * MIB, 'in the outage');
  });
  await cluster.clock.runUntil(() => cluster.clock.monotonicMs() - begunMs >= endsInMs - 2_000);
  const slowly = copiedBytes(cluster);
  expect(slowly).toBeGreaterThan(8 * MIB);
  expect(slowly).toBeLessThan(16 * MIB);
  await cluster.clock.advance(3_000);
  expect(status(cluster)).toMatchObject({ maxBytesPerSecond: 4 * MIB, state: 'catching-up' });
  const before = cluster.clock.monotonicMs();
  const left = 23 * MIB - copiedBytes(cluster);
  await settled(cluster);
  const tookMs = cluster.clock.monotonicMs() - before;
  expect(tookMs).toBeGreaterThan((left / (4 * MIB)) * 500);
  expect(tookMs).toBeLessThan(20_000);
  await expectEqual(cluster);
});
