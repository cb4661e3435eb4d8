/** A resync that has ended at the hub, and the agent that was never told. */
import { type Cluster } from '../sim/cluster.js';
import { LINK, MIB, outage, resyncing, status, write } from './scene.js';

/** Returns when the hub holds all of it and both sides have lost each other; the hub's address stays silent. */
export async function loseLastWordOfResync(cluster: Cluster): Promise<void> {
  cluster.options = { ...cluster.options, agent: { ...cluster.options.agent, windowBytes: 4 * MIB } };
  await cluster.stopAgent();
  await cluster.startAgent();
  await cluster.clock.runUntil(() => status(cluster).state === 'protected');
  await outage(cluster, async () => {
    await write(cluster, 0, 6 * MIB);
  });
  await resyncing(cluster);
  await cluster.clock.runUntil(() => status(cluster).dirtyBytes === 0 || status(cluster).resync === null);
  for (const link of cluster.agentHost.network.links(LINK)) link.freeze('to-client');
  await cluster.clock.runUntil(() => cluster.hub?.hub.group('vm1').status().state !== 'unknown');
  await cluster.clock.advance(1_000);
  cluster.silenceHub(true);
  await cluster.clock.runUntil(() => !status(cluster).agentConnected);
}
