/**
 * The agent's state directory comes back from an old copy, and its agent is started more often than the hub has seen sessions
 * before the two meet: the session number alone would pass it (LINEAGE, row L4).
 */
import { expect, it } from 'vitest';
import { Cluster } from './cluster.js';

const MIB = 1024 * 1024;

async function inStep(cluster: Cluster): Promise<void> {
  await cluster.waitProtected();
  await cluster.clock.runUntil(() => cluster.agent?.status().lagBytes === 0);
}

/** Started, and killed before the hub is there. */
async function startInVain(cluster: Cluster, times: number): Promise<void> {
  for (let start = 0; start < times; start += 1) {
    await cluster.startAgent();
    await cluster.clock.advance(3_000);
    cluster.killAgent('keep');
  }
}

/** In its second session, with a copy of the state of it; then a third, in which the guest writes. The agent is down. */
async function copiedAndGoneOn(seed: number): Promise<{ cluster: Cluster; putBack: () => void }> {
  const cluster = new Cluster({ seed, diskBytes: 8 * MIB });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await inStep(cluster);
  await cluster.work(100);
  await inStep(cluster);
  await cluster.stopAgent();
  await cluster.startAgent();
  await inStep(cluster);
  const copy = cluster.agentHost.files.snapshot('/state');
  await cluster.stopAgent();
  await cluster.startAgent();
  await inStep(cluster);
  await cluster.work(100);
  await inStep(cluster);
  cluster.killAgent('keep');
  return { cluster, putBack: () => cluster.agentHost.files.restore('/state', copy) };
}

const isRefused = (cluster: Cluster): boolean => cluster.agent?.status().hub?.refused === true;

it.each([1, 2, 5])('an old copy that was started %i times in vain is refused all the same', async (times) => {
  const { cluster, putBack } = await copiedAndGoneOn(40 + times);
  const before = await cluster.replica('disk0');
  await cluster.stopHub(false);
  putBack();
  await startInVain(cluster, times);
  await cluster.startAgent();
  await cluster.work(50);
  await cluster.startHub();
  await cluster.clock.runUntil(() => isRefused(cluster), 60_000);
  expect(cluster.agent?.status().reason).toContain('its state directory is an old copy');
  await cluster.work(50);
  await cluster.clock.advance(20_000);
  expect(Buffer.compare(await cluster.replica('disk0'), before), 'the replica was left alone').toBe(0);

  // Its next start does not pass by a number that is higher still, nor does an operator's word make it a successor.
  cluster.killAgent('keep');
  await cluster.startAgent();
  await cluster.clock.advance(20_000);
  expect(cluster.agent?.status().hub?.connected).not.toBe(true);
  await cluster.run(cluster.agent?.resume() ?? Promise.resolve());
  await cluster.clock.runUntil(() => isRefused(cluster), 60_000);
  expect(Buffer.compare(await cluster.replica('disk0'), before), 'the replica was left alone').toBe(0);
});

it('the true state, started as often in vain, is let in', async () => {
  const { cluster } = await copiedAndGoneOn(50);
  await cluster.stopHub(false);
  await startInVain(cluster, 5);
  await cluster.startAgent();
  await cluster.work(50);
  await cluster.startHub();
  await inStep(cluster);
  expect(Buffer.compare(await cluster.replica('disk0'), await cluster.upstream('disk0'))).toBe(0);
});
