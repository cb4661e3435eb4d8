/** A cluster at rest, and what must be equal then. */
import { expect } from 'vitest';
import { type Cluster } from './cluster.js';

const LIMIT_MS = 600_000;

/** In step: nothing is marked, and all that was written is durable at the hub. */
export async function settled(cluster: Cluster, limitMs = LIMIT_MS): Promise<void> {
  await cluster.clock.runUntil(() => {
    const status = cluster.agent?.status();
    return status?.state === 'protected' && status.lagBytes === 0;
  }, limitMs);
}

/** Settled, and no extent is hot: a crash from here on finds nothing marked. */
export async function cooled(cluster: Cluster): Promise<void> {
  await cluster.clock.runUntil(() => {
    const status = cluster.agent?.status();
    return status?.state === 'protected' && status.lagBytes === 0 && status.hotExtents === 0;
  }, LIMIT_MS);
}

/** Each replica, read from the hub, against its upstream, read past the agent. */
export async function expectEqual(cluster: Cluster): Promise<void> {
  for (const volume of cluster.volumes) {
    const upstream = await cluster.upstream(volume);
    const replica = await cluster.replica(volume);
    expect(replica.length, volume).toBe(upstream.length);
    expect(Buffer.compare(replica, upstream), `replica of ${volume}`).toBe(0);
  }
}
