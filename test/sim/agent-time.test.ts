import { expect, it } from 'vitest';
import { Cluster } from './cluster.js';

const HOUR_MS = 3_600_000;

it('agent time does not go back along the line, though the clock is set back before the agent starts again (promise ORD)', async () => {
  const cluster = new Cluster({ seed: 5, diskBytes: 4 << 20 });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  const consistentTime = (): string => cluster.hub?.hub.status().groups[0]?.consistentTime ?? '';
  const settled = async (): Promise<void> => {
    await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
    await cluster.clock.advance(100);
  };
  await cluster.work(50);
  await settled();
  const before = consistentTime();
  expect(before).not.toBe('');
  await cluster.stopAgent();
  cluster.clock.jumpUnix(-HOUR_MS);
  await cluster.startAgent();
  await cluster.waitProtected();
  await cluster.work(50);
  await settled();
  expect(Date.parse(consistentTime())).toBeGreaterThanOrEqual(Date.parse(before));
  cluster.clock.jumpUnix(2 * HOUR_MS);
  await cluster.clock.advance(2_000);
  await cluster.work(50);
  await settled();
  expect(Date.parse(consistentTime())).toBeGreaterThan(Date.parse(before) + HOUR_MS / 2);
});
