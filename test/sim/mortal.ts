/**
 * A host whose process can be killed at any moment: from then on none of its timers run, its sockets are
 * gone and its files throw. What it left on its disk is decided by the crash.
 */
import {
  type Address,
  type Clock,
  type Connection,
  type Listener,
  type Network,
  type Platform,
  type Timer,
} from '@rephub/platform';
import { type SimPlatform } from '@rephub/platform/sim';

export interface Mortal {
  readonly platform: Platform;
  /** The process dies: connections reset, listeners gone, no timer runs. Its files are the caller's to crash. */
  kill(): void;
}

export function mortal(host: SimPlatform): Mortal {
  let alive = true;
  const listeners = new Set<Listener>();
  const connections = new Set<Connection>();
  const clock: Clock = {
    monotonicMs: () => host.clock.monotonicMs(),
    unixMs: () => host.clock.unixMs(),
    after: (delayMs, run): Timer =>
      host.clock.after(delayMs, () => {
        if (alive) run();
      }),
  };
  const network: Network = {
    connect: async (address: Address, options) => {
      const connection = await host.network.connect(address, options);
      if (!alive) connection.destroy();
      connections.add(connection);
      return connection;
    },
    listen: async (address, accept) => {
      const listener = await host.network.listen(address, (connection) => {
        connections.add(connection);
        accept(connection);
      });
      listeners.add(listener);
      return listener;
    },
  };
  return {
    platform: { clock, network, files: host.files, randomness: host.randomness },
    kill: () => {
      alive = false;
      for (const listener of listeners) void listener.close();
      for (const connection of connections) connection.destroy();
    },
  };
}
