/** What most tests of the whole begin with: a disk behind qemu-nbd, an agent, a hub, in step; and a guest that is patient. */
import { filledDisk } from './filled-disk.js';
import { type Peer, qemuNbd, qemuPassThrough, sparseFile } from './peers.js';
import { type AgentPlace, startSystem, type System, type SystemOptions } from './rephub-system.js';
import { type Scope } from './scope.js';

export interface ProtectedDisk extends System {
  readonly upstream: Peer;
  /** What qemu-nbd serves. */
  readonly file: string;
}

/** An empty disk, or with `filled` one without a hole; returns when it is protected. */
export async function protectedDisk(
  scope: Scope,
  sizeBytes: number,
  options: SystemOptions & { readonly filled?: boolean } = {},
): Promise<ProtectedDisk> {
  const file = options.filled === true ? await filledDisk(scope, sizeBytes) : await sparseFile(scope, sizeBytes);
  return await protectedFile(scope, file, options);
}

/** The same for a disk that is there. */
export async function protectedFile(scope: Scope, file: string, options: SystemOptions = {}): Promise<ProtectedDisk> {
  const upstream = await qemuNbd(scope, file);
  return { upstream, file, ...(await startSystem(scope, upstream.uri, options)) };
}

/** A QEMU between a client and the agent: waits a minute for an agent that restarts, as a VM should. */
export async function patientGuest(scope: Scope, agent: AgentPlace, volume = ''): Promise<Peer> {
  return await qemuPassThrough(scope, { ...agent.address, exportName: volume }, { reconnectDelaySeconds: 60 });
}
