/**
 * What the scenarios in virtual time begin and end with: a protected system, an outage with writes in it, both sides equal.
 * Must not know: any one scenario.
 */
import { writeBytes } from '@rephub/nbd';
import { type Address } from '@rephub/platform';
import { Cluster, type ClusterOptions } from '../sim/cluster.js';
import { expectEqual, settled } from '../sim/settled.js';

export { expectEqual, settled };

export const KIB = 1024;
export const MIB = 1024 * 1024;
/** Where the hub is, for whoever wants to spoil the wire. */
export const LINK: Address = { kind: 'tcp', host: '127.0.0.1', port: 9010 };
/** A window this small is full after little more than a hundred writes: then the agent only marks. */
export const SMALL_WINDOW = { windowBytes: MIB };

export type Status = NonNullable<Cluster['agent']> extends { status(): infer S } ? S : never;

/** In step, nothing hot any more: whatever is marked from here on is the scenario's doing. */
export async function protectedCluster(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const cluster = new Cluster({ seed: 1, diskBytes: 16 * MIB, ...options });
  await cluster.makeDisks();
  await cluster.startHub();
  await cluster.startAgent();
  await settled(cluster);
  await cluster.clock.runUntil(() => status(cluster).hotExtents === 0);
  return cluster;
}

export function status(cluster: Cluster): Status {
  if (cluster.agent === null) throw new Error('no agent is running');
  return cluster.agent.status();
}

export function copiedBytes(cluster: Cluster): number {
  return status(cluster).counters.copiedBytes;
}

/** The guest writes so many bytes there, in requests of at most 64 KiB, and has its answers. */
export async function write(
  cluster: Cluster,
  offsetBytes: number,
  lengthBytes: number,
  text = 'written',
  volume = 'disk0',
): Promise<void> {
  const client = await cluster.guest(volume);
  for (let at = 0; at < lengthBytes; at += 64 * KIB) {
    const bytes = Buffer.alloc(Math.min(64 * KIB, lengthBytes - at), `${text} ${offsetBytes + at};`);
    await cluster.run(writeBytes(client, offsetBytes + at, bytes, false));
  }
}

/** The hub is away while `during` goes on, and for so long that the agent has noticed; it is back when this resolves. */
export async function outage(cluster: Cluster, during: () => Promise<void>): Promise<void> {
  cluster.silenceHub(true);
  await during();
  await cluster.clock.runUntil(() => !status(cluster).agentConnected);
  cluster.silenceHub(false);
}

/** Waits until a resync has begun to copy. */
export async function resyncing(cluster: Cluster, atLeastBytes = 1): Promise<void> {
  await cluster.clock.runUntil(() => (status(cluster).resync?.bytesDone ?? 0) >= atLeastBytes);
}
