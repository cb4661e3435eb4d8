/**
 * A hub with its listeners: where agents come to, and where NBD clients do. All of it on the platform's
 * network, so that a whole hub runs simulated; HTTP is the command's affair.
 *
 * Always holds: listeners open only when every group has been recovered; they close before the groups do.
 */
import { exportUri, NbdServer } from '@rephub/nbd';
import { type Address, listeningFor, type Listener, type Platform } from '@rephub/platform';
import { hubExports } from './hub-exports.js';
import { Hub, type HubOptions } from './hub.js';
import { refuseOpenDoors } from './open-doors.js';

export interface HubServerOptions extends HubOptions {
  /** Where agents connect to. */
  readonly listen: readonly Address[];
  readonly nbd: readonly Address[];
  /** Allows what other machines can reach, without TLS or a credential. */
  readonly insecure: boolean;
}

export class HubServer {
  readonly hub: Hub;
  readonly nbd: NbdServer;
  readonly #agentListeners: Listener[] = [];
  readonly #nbdListeners: Listener[] = [];

  /** Opens the hub and listens. Throws what Hub.open and Network.listen throw, and `not-local`; then nothing is left open. */
  static async open(platform: Platform, options: HubServerOptions): Promise<HubServer> {
    refuseOpenDoors('--listen', options.listen, options.insecure);
    refuseOpenDoors('--nbd', options.nbd, options.insecure);
    const hub = await Hub.open(platform, options);
    const server = new HubServer(hub, platform);
    try {
      for (const address of options.nbd) {
        server.#nbdListeners.push(await listeningFor('--nbd', server.nbd.listen(address)));
      }
      for (const address of options.listen) {
        const listening = platform.network.listen(address, (connection) => hub.accept(connection));
        server.#agentListeners.push(await listeningFor('--listen', listening));
      }
      return server;
    } catch (thrown) {
      await server.close({ drain: false, graceMs: 0 });
      throw thrown;
    }
  }

  private constructor(hub: Hub, platform: Platform) {
    this.hub = hub;
    this.nbd = new NbdServer({
      platform,
      exports: hubExports(hub),
      onFault: (fault) => hub.counters.nbdFaults.add(fault.code),
    });
  }

  /** Where agents connect to, the real ports filled in. */
  get agentAddresses(): Address[] {
    return this.#agentListeners.map((listener) => listener.address);
  }

  get nbdAddresses(): Address[] {
    return this.#nbdListeners.map((listener) => listener.address);
  }

  /** The URIs of an export, one for each NBD listener, as this machine reaches them. */
  exportUris(name: string): string[] {
    return this.nbdAddresses.map((address) => exportUri(reachable(address), name));
  }

  /** No new connections; agents told goodbye, NBD requests in flight answered, journals synced; with `drain` applied too. */
  async close(options: { readonly drain: boolean; readonly graceMs: number }): Promise<void> {
    await Promise.all([...this.#agentListeners, ...this.#nbdListeners].map(async (listener) => await listener.close()));
    this.hub.endSessions('the hub stops');
    await this.nbd.close(options.graceMs);
    await this.hub.close(options.drain);
  }
}

/** An address of all interfaces, as this machine itself connects to it. */
function reachable(address: Address): Address {
  if (address.kind !== 'tcp') return address;
  if (address.host === '0.0.0.0') return { ...address, host: '127.0.0.1' };
  return address.host === '::' ? { ...address, host: '::1' } : address;
}
