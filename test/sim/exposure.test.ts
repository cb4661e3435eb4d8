import { expect, it } from 'vitest';
import { Cluster } from './cluster.js';

const MINUTE_MS = 60_000;

/** Protected and in step; then the hub is silent, and the guest goes on writing. */
async function exposed(seed: number): Promise<{ readonly cluster: Cluster; readonly lostMs: number }> {
  const cluster = new Cluster({ seed, diskBytes: 8 << 20, linkLatencyMs: 5, agent: { maxBytesPerSecond: 400_000 } });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.waitProtected();
  await cluster.work(100);
  await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
  // A beat has told so.
  await cluster.clock.advance(2_000);
  cluster.silenceHub(true);
  cluster.cutLink();
  const lostMs = cluster.clock.monotonicMs();
  await cluster.work(100);
  return { cluster, lostMs };
}

const rpoMs = (cluster: Cluster): number | null => {
  const seconds = cluster.agent?.status().rpoSeconds ?? null;
  return seconds === null ? null : seconds * 1000;
};

const toldByHub = (cluster: Cluster): number | null => cluster.hub?.hub.status().groups[0]?.rpoSeconds ?? null;

/** The hub answers again: until both have spoken nothing is known, then at least so much as is true and little more. */
async function tellsTheAge(cluster: Cluster, lostMs: number): Promise<void> {
  expect(rpoMs(cluster)).toBeNull();
  cluster.silenceHub(false);
  await cluster.clock.runUntil(() => cluster.agent?.status().hub?.connected === true);
  const trueMs = cluster.clock.monotonicMs() - lostMs;
  expect(rpoMs(cluster)).toBeGreaterThanOrEqual(trueMs - 200);
  expect(rpoMs(cluster)).toBeLessThan(trueMs + 2_500);
  await cluster.waitProtected();
  await cluster.clock.runUntil(() => cluster.agent?.status().rpoSeconds === 0);
}

it('after a crash of the agent the RPO is unknown at first, then not better than what the hub has shows (promise RPO)', async () => {
  const { cluster, lostMs } = await exposed(8);
  cluster.killAgent('keep');
  await cluster.clock.advance(30_000);
  await cluster.startAgent();
  await tellsTheAge(cluster, lostMs);
});

it.each([
  ['killed', -20 * MINUTE_MS],
  ['stopped', -20 * MINUTE_MS],
  ['killed', 20 * MINUTE_MS],
] as const)(
  'an agent that was %s before the wall clock was moved by %i ms tells the age of what the hub lacks by the hub’s monotonic clock (promise RPO)',
  async (end, byMs) => {
    const { cluster, lostMs } = await exposed(9);
    if (end === 'killed') cluster.killAgent('keep');
    else await cluster.stopAgent();
    await cluster.clock.advance(30 * MINUTE_MS);
    cluster.clock.jumpUnix(byMs);
    await cluster.startAgent();
    await tellsTheAge(cluster, lostMs);
  },
);

it('a second crash before anything was sent again makes the RPO no better (promise RPO)', async () => {
  const { cluster, lostMs } = await exposed(11);
  for (let crash = 0; crash < 3; crash += 1) {
    cluster.killAgent('keep');
    cluster.clock.jumpUnix(-MINUTE_MS);
    await cluster.clock.advance(MINUTE_MS);
    cluster.silenceHub(false);
    await cluster.startAgent();
    await cluster.clock.runUntil(() => cluster.agent?.status().hub?.connected === true);
    const trueMs = cluster.clock.monotonicMs() - lostMs;
    expect(rpoMs(cluster)).toBeGreaterThanOrEqual(trueMs - 200);
    expect(rpoMs(cluster)).toBeLessThan(trueMs + 2_500);
  }
});

it('when agent and hub have both begun anew, nobody knows the RPO until the span has ended (promise RPO)', async () => {
  const { cluster } = await exposed(10);
  cluster.killAgent('keep');
  cluster.killHub('keep');
  await cluster.clock.advance(30 * MINUTE_MS);
  cluster.clock.jumpUnix(-20 * MINUTE_MS);
  cluster.silenceHub(false);
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.clock.runUntil(() => cluster.agent?.status().hub?.connected === true);
  expect(rpoMs(cluster)).toBeNull();
  expect(toldByHub(cluster)).toBeNull();
  await cluster.waitProtected();
  await cluster.clock.advance(2_000);
  expect(rpoMs(cluster)).toBe(0);
  expect(toldByHub(cluster)).toBe(0);
});
