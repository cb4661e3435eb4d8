/**
 * The host's network as one process sees it. While the process is stopped the kernel accepts connections and
 * takes bytes as far as its buffers reach; when it dies the kernel closes what it had open.
 */
import { holdSlice, releaseSlice } from '../counted-memory.js';
import type { Address, Connection, ConnectOptions, Listener, Network } from '../network.js';
import { ForwardingConnection } from './forwarding-connection.js';
import type { Life } from './life.js';
import type { SimConnection } from './link.js';
import type { HostNetwork } from './network.js';

export class ProcessNetwork implements Network {
  readonly #network: HostNetwork;
  readonly #life: Life;
  readonly #listeners = new Set<Listener>();
  readonly #connections = new Set<ProcessConnection>();

  constructor(network: HostNetwork, life: Life) {
    this.#network = network;
    this.#life = life;
  }

  async connect(address: Address, options: ConnectOptions): Promise<Connection> {
    if (this.#life.state === 'dead') return await new Promise(() => undefined);
    const connecting = this.#network.connect(address, options).then((connection) => this.#own(connection));
    return await this.#life.promised(connecting);
  }

  async listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    if (this.#life.state === 'dead') return await new Promise(() => undefined);
    const listener = await this.#network.listen(address, (connection) => {
      const own = this.#own(connection);
      this.#life.event(() => accept(own));
    });
    this.#listeners.add(listener);
    return {
      address: listener.address,
      close: async () => {
        this.#listeners.delete(listener);
        await listener.close();
      },
    };
  }

  /** The process has died: the kernel closes its sockets. */
  closeAll(): void {
    this.#closeListeners();
    for (const { inner } of this.#connections) inner.destroy();
    this.#connections.clear();
  }

  /** The host is without power: nobody closes anything, nobody answers. */
  vanish(backAfterMs: number): void {
    this.#closeListeners();
    for (const { inner } of this.#connections) inner.vanish(backAfterMs);
    this.#connections.clear();
  }

  /** The process is stopped: what arrives stays in the kernel. */
  pause(): void {
    for (const { inner } of this.#connections) inner.pause();
  }

  resume(): void {
    for (const connection of this.#connections) connection.goOn();
  }

  #closeListeners(): void {
    for (const listener of this.#listeners) void listener.close();
    this.#listeners.clear();
  }

  #own(inner: SimConnection): ProcessConnection {
    const connection = new ProcessConnection(inner, this.#life, () => this.#connections.delete(connection));
    if (this.#life.state === 'dead') inner.destroy();
    else this.#connections.add(connection);
    if (this.#life.state === 'paused') inner.pause();
    return connection;
  }
}

class ProcessConnection extends ForwardingConnection {
  readonly #life: Life;
  readonly #gone: () => void;
  #isPausedByCode = false;

  constructor(inner: SimConnection, life: Life, gone: () => void) {
    super(inner);
    this.#life = life;
    this.#gone = gone;
  }

  override received(chunk: Buffer): void {
    // Held while it waits: its memory is used again otherwise.
    holdSlice(chunk);
    this.#life.event(() => {
      super.received(chunk);
      releaseSlice(chunk);
    });
  }

  override drained(): void {
    this.#life.event(() => super.drained());
  }

  override ended(): void {
    this.#life.event(() => super.ended());
  }

  override closed(error: Error | null): void {
    this.#gone();
    this.#life.event(() => super.closed(error));
  }

  override send(chunk: Uint8Array): void {
    if (this.#life.state !== 'dead') super.send(chunk);
  }

  override pause(): void {
    this.#isPausedByCode = true;
    super.pause();
  }

  override resume(): void {
    this.#isPausedByCode = false;
    if (this.#life.state === 'running') super.resume();
  }

  /** The process goes on. */
  goOn(): void {
    if (!this.#isPausedByCode) super.resume();
  }

  override end(): void {
    if (this.#life.state !== 'dead') super.end();
  }

  override destroy(): void {
    if (this.#life.state !== 'dead') super.destroy();
  }
}
