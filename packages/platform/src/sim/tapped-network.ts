/**
 * A host's network with a test between its processes and the wire: it sees, and may spoil, what the connections carry.
 *
 * Always holds: what is heard is what leaves the host and what arrives there; a process that is dead is not heard any more.
 */
import type { Address } from '../network.js';
import type { SimConnection } from './link.js';
import type { HostNetwork } from './network.js';

/** Gives the connection that the process is to have: this one, or one that goes through it (see ForwardingConnection). */
export type ConnectionTap = (connection: SimConnection, address: Address, side: 'client' | 'server') => SimConnection;

/** `tap` is asked once for each connection, before the process has it. */
export function tappedNetwork(network: HostNetwork, tap: ConnectionTap): HostNetwork {
  return {
    connect: (address, options) =>
      network.connect(address, options).then((connection) => tap(connection, address, 'client')),
    listen: (address, accept) =>
      network.listen(address, (connection) => {
        accept(tap(connection, address, 'server'));
      }),
  };
}
