/**
 * An agent that never met a hub in its life does not know what the one before it has numbered: however orderly it stops, its
 * successor must not say that it knows (LINEAGE, row L11).
 */
import { expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { cooled } from './settled.js';

const MIB = 1024 * 1024;

it('after a crash with no mark left, a start and an orderly stop without the hub, the agent is let in', async () => {
  const cluster = new Cluster({ seed: 21, diskBytes: 8 * MIB });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await cooled(cluster);
  await cluster.work(50);
  await cooled(cluster);
  await cluster.clock.advance(20_000);
  const [group] = cluster.hub?.hub.groups ?? [];
  if (group === undefined) throw new Error('the hub has the group');
  // Numbered, and no mark is needed for it.
  const order = { volume: 'disk0', offset: 0, length: 4096, timeoutMs: 5000 };
  for (let read = 0; read < 3; read++) await cluster.run(group.readRegion(order));
  await cluster.clock.runUntil(() => cluster.agent?.status().windowBytes === 0);
  cluster.killAgent('keep');
  await cluster.stopHub(false);
  await cluster.startAgent();
  await cluster.clock.advance(3_000);
  expect(await cluster.stopAgent()).toBe(true);
  await cluster.startHub();
  await cluster.startAgent();
  await cluster.clock.runUntil(() => (cluster.agent?.status().hub?.lastVerdict ?? null) !== null);
  const { hub, tracking } = cluster.agent?.status() ?? {};
  expect([tracking?.found, hub?.refused, hub?.lastVerdict]).toEqual(['clean', false, 'L20-hub-behind']);
  await cooled(cluster);
  // Nothing was marked: nothing is sent.
  expect(cluster.agent?.status().lastResync?.bytesSent).toBe(0);
  expect(await cluster.stopAgent()).toBe(true);

  // Its number is exact again.
  await cluster.startAgent();
  await cluster.clock.runUntil(() => cluster.agent?.status().hub?.connected === true);
  expect(cluster.agent?.status().hub?.lastVerdict).toBe('L15-equal');
});
