/**
 * A network in memory, driven by the virtual clock: latency, bandwidth, cuts at a chosen byte, half-open
 * connections, hosts that do not answer or refuse, listeners that are slow to accept.
 *
 * Always holds: nothing arrives in the turn in which it was sent; the same run gives the same order.
 */
import type { Clock } from '../clock.js';
import { LinkFault } from '../errors.js';
import { type Address, type ConnectOptions, formatAddress, type Listener, type Network } from '../network.js';
import type { LinkConditions } from './link-conditions.js';
import { makeLink, type SimConnection, type SimLink } from './link.js';

export interface SimNetworkOptions {
  readonly clock: Clock;
  /** One way; 0.1 ms when left out. */
  readonly latencyMs?: number;
}

/** The network as the kernel of one host has it, for the processes on it. */
export interface HostNetwork extends Network {
  connect(address: Address, options: ConnectOptions): Promise<SimConnection>;
  listen(address: Address, accept: (connection: SimConnection) => void): Promise<Listener>;
}

const FIRST_FREE_PORT = 40_000;

export class SimNetwork implements HostNetwork {
  /** How the wires of links made from now on behave at first; each address may have its own (see `conditionsOf`). */
  readonly conditions: LinkConditions;
  /** Called for every new link before its ends are handed out: the place to plan a cut. */
  onLink: ((link: SimLink) => void) | null = null;
  readonly #clock: Clock;
  readonly #listening = new Map<string, (connection: SimConnection) => void>();
  readonly #conditionsOf = new Map<string, LinkConditions>();
  readonly #silent = new Set<string>();
  readonly #refusing = new Set<string>();
  readonly #links = new Set<SimLink>();
  #nextPort = FIRST_FREE_PORT;

  constructor(options: SimNetworkOptions) {
    this.#clock = options.clock;
    this.conditions = {
      latencyMs: options.latencyMs ?? 0.1,
      jitterMs: () => 0,
      bytesPerMs: Infinity,
      fragmentBytes: () => Infinity,
      acceptDelayMs: () => 0,
    };
  }

  /** Links that are open, oldest first; those to one address when it is given. */
  links(address?: Address): SimLink[] {
    const all = [...this.#links];
    return address === undefined ? all : all.filter((link) => link.address === formatAddress(address));
  }

  /** The conditions of all links to one address, open ones included; change them at will. */
  conditionsOf(address: Address): LinkConditions {
    const name = formatAddress(address);
    let conditions = this.#conditionsOf.get(name);
    if (conditions === undefined) this.#conditionsOf.set(name, (conditions = { ...this.conditions }));
    return conditions;
  }

  /** The host does not answer any more: connecting times out, open links freeze. False undoes it. */
  setSilent(address: Address, silent: boolean): void {
    const name = formatAddress(address);
    if (silent) this.#silent.add(name);
    else this.#silent.delete(name);
    for (const link of this.links(address)) {
      if (silent) link.freeze();
      else link.thaw();
    }
  }

  /** New connections are refused, whoever listens there; open ones go on. False undoes it. */
  setRefusing(address: Address, refusing: boolean): void {
    const name = formatAddress(address);
    if (refusing) this.#refusing.add(name);
    else this.#refusing.delete(name);
  }

  async connect(address: Address, options: ConnectOptions): Promise<SimConnection> {
    const name = formatAddress(address);
    const { signal } = options;
    const conditions = this.conditionsOf(address);
    return await new Promise((resolve, reject) => {
      const finish = (act: () => void): void => {
        timeout.cancel();
        arrival?.cancel();
        signal?.removeEventListener('abort', onAbort);
        act();
      };
      const onAbort = (): void =>
        finish(() =>
          reject(new LinkFault('connect-aborted', `connecting to ${name} was given up`, { retryable: false })),
        );
      const timeout = this.#clock.after(options.timeoutMs, () =>
        finish(() =>
          reject(
            new LinkFault('connect-timeout', `cannot connect to ${name}: no answer within ${options.timeoutMs} ms`),
          ),
        ),
      );
      const arrival = this.#silent.has(name)
        ? null
        : this.#clock.after(conditions.latencyMs * 2 + conditions.jitterMs() + conditions.jitterMs(), () =>
            finish(() => {
              const accept = this.#listening.get(name);
              if (accept === undefined || this.#refusing.has(name))
                reject(new LinkFault('connect-refused', `cannot connect to ${name}: nobody listens there`));
              else resolve(this.#join(name, conditions, accept));
            }),
          );
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted === true) onAbort();
    });
  }

  listen(address: Address, accept: (connection: SimConnection) => void): Promise<Listener> {
    const bound: Address =
      address.kind === 'tcp' && address.port === 0 ? { ...address, port: (this.#nextPort += 1) } : address;
    const name = formatAddress(bound);
    if (this.#listening.has(name)) {
      return Promise.reject(
        new LinkFault('address-in-use', `cannot listen on ${name}: something listens there already`),
      );
    }
    this.#listening.set(name, accept);
    return Promise.resolve({
      address: bound,
      close: () => {
        if (this.#listening.get(name) === accept) this.#listening.delete(name);
        return Promise.resolve();
      },
    });
  }

  #join(name: string, conditions: LinkConditions, accept: (connection: SimConnection) => void): SimConnection {
    const link = makeLink(this.#clock, conditions, name, (closed) => this.#links.delete(closed));
    this.#links.add(link);
    this.onLink?.(link);
    const delayMs = conditions.acceptDelayMs();
    if (delayMs === 0) accept(link.server);
    else {
      this.#clock.after(delayMs, () => {
        // Its listener has gone meanwhile: the kernel drops what waits to be accepted.
        if (this.#listening.get(name) === accept) accept(link.server);
        else link.server.destroy();
      });
    }
    return link.client;
  }
}
