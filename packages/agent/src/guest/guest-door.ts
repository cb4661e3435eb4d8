/** Where guests come in: the NBD listeners of a group, by address, or sockets that were passed to the process. */
import { type BlockDevice, fixedExports, NbdServer, parseListenUri, type ServerFault } from '@rephub/nbd';
import {
  type Address,
  type Connection,
  formatAddress,
  type Listener,
  listeningFor,
  PayloadBudget,
  type Platform,
} from '@rephub/platform';
import { type AgentConfig } from '../config.js';

/** Begins to accept on a socket that is open already. */
export type PassedSocket = (accept: (connection: Connection) => void) => Promise<Listener>;

export interface NamedVolume extends BlockDevice {
  readonly name: string;
}

export class GuestDoor {
  readonly servers: NbdServer[] = [];
  readonly #platform: Platform;
  readonly #onFault: (fault: ServerFault) => void;
  readonly #listeners: Listener[] = [];
  /** One for all doors: what guests have begun to write is bounded for the agent as a whole. */
  readonly #payloads: PayloadBudget;

  constructor(platform: Platform, onFault: (fault: ServerFault) => void) {
    this.#platform = platform;
    this.#onFault = onFault;
    this.#payloads = new PayloadBudget(platform.clock);
  }

  get requestsInFlight(): number {
    let requests = 0;
    for (const server of this.servers) requests += server.requestsInFlight;
    return requests;
  }

  /** Where guests are served: real addresses. */
  get addresses(): Address[] {
    return this.#listeners.map((listener) => listener.address);
  }

  /**
   * Opens what the configuration names; sockets that were passed serve all volumes, in the place of all addresses.
   * Throws the ConfigFault of an address that cannot be had.
   */
  async open(config: AgentConfig, volumes: readonly NamedVolume[], passed: readonly PassedSocket[]): Promise<void> {
    if (passed.length > 0) {
      await this.#adopt(volumes, passed);
      return;
    }
    for (const { address, devices } of doorsOf(config, volumes)) {
      this.#listeners.push(await listeningFor('--listen', this.#serve(devices).listen(address)));
    }
  }

  async #adopt(volumes: readonly NamedVolume[], passed: readonly PassedSocket[]): Promise<void> {
    const server = this.#serve(new Map(volumes.map((volume) => [volume.name, volume])));
    for (const socket of passed) {
      const listener = await socket((connection) => {
        server.accept(connection);
      });
      server.adopt(listener);
      this.#listeners.push(listener);
    }
  }

  #serve(devices: ReadonlyMap<string, BlockDevice>): NbdServer {
    const server = new NbdServer({
      platform: this.#platform,
      exports: fixedExports(devices),
      payloads: this.#payloads,
      onFault: this.#onFault,
    });
    this.servers.push(server);
    return server;
  }
}

interface Door {
  readonly address: Address;
  readonly devices: Map<string, BlockDevice>;
}

/** One for each address: several volumes may share it. */
function doorsOf(config: AgentConfig, volumes: readonly NamedVolume[]): Iterable<Door> {
  const doors = new Map<string, Door>();
  const add = (uri: string, served: readonly NamedVolume[]): void => {
    const address = parseListenUri(uri);
    const key = formatAddress(address);
    const door = doors.get(key) ?? { address, devices: new Map<string, BlockDevice>() };
    for (const volume of served) door.devices.set(volume.name, volume);
    doors.set(key, door);
  };
  for (const uri of config.listen) add(uri, volumes);
  for (const [index, { listen }] of config.volumes.entries()) {
    for (const uri of listen) add(uri, volumes.slice(index, index + 1));
  }
  return doors.values();
}
