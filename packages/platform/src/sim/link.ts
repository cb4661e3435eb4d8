/**
 * One simulated connection as a test sees it: two ends, the wire between them, and what can go wrong with it.
 * Must not know: addresses, listeners.
 */
import type { Clock } from '../clock.js';
import type { Connection } from '../network.js';
import type { LinkConditions } from './link-conditions.js';
import { End, type SimConnection } from './link-end.js';

export type { SimConnection } from './link-end.js';

export type Direction = 'to-server' | 'to-client';

/** A live simulated connection, seen by the test. */
export interface SimLink {
  readonly address: string;
  readonly client: Connection;
  readonly server: Connection;
  readonly isOpen: boolean;
  /** Bytes handed to the receiver in that direction so far. */
  deliveredBytes(direction: Direction): number;
  /** Both ends see a reset, now. */
  cut(): void;
  /** The reset comes as soon as `bytes` in all have been delivered in that direction, not one more. */
  cutAfter(direction: Direction, bytes: number): void;
  /**
   * One end sees a reset now. The other, still open, hears of it when it sends; with `otherAfterMs` it hears
   * nothing, whatever it does, until then, and then a reset.
   */
  reset(side: 'client' | 'server', otherAfterMs?: number): void;
  /** Nothing arrives any more, in one direction or both, and nobody is told: the half-open connection. */
  freeze(direction?: Direction): void;
  /** What was held back arrives. */
  thaw(direction?: Direction): void;
}

/** Makes both ends of a connection. */
export function makeLink(
  clock: Clock,
  conditions: LinkConditions,
  address: string,
  onClosed: (link: SimLink) => void,
): Link {
  return new Link(clock, conditions, address, onClosed);
}

class Link implements SimLink {
  readonly address: string;
  readonly client: End;
  readonly server: End;
  readonly #clock: Clock;

  constructor(clock: Clock, conditions: LinkConditions, address: string, onClosed: (link: SimLink) => void) {
    this.address = address;
    this.#clock = clock;
    const ended = (): void => {
      if (!this.isOpen) onClosed(this);
    };
    this.client = new End(clock, conditions, address, ended);
    this.server = new End(clock, conditions, `client of ${address}`, ended);
    this.client.join(this.server);
    this.server.join(this.client);
  }

  get isOpen(): boolean {
    return !this.client.isGone || !this.server.isGone;
  }

  deliveredBytes(direction: Direction): number {
    return this.#receiving(direction).deliveredBytes;
  }

  cut(): void {
    this.client.reset();
    this.server.reset();
  }

  cutAfter(direction: Direction, bytes: number): void {
    this.#receiving(direction).cutAfter(bytes, () => this.cut());
  }

  reset(side: 'client' | 'server', otherAfterMs?: number): void {
    const end: SimConnection & End = side === 'client' ? this.client : this.server;
    const other = side === 'client' ? this.server : this.client;
    end.reset();
    if (otherAfterMs === undefined) return;
    end.answerNothing();
    if (otherAfterMs !== Infinity) this.#clock.after(otherAfterMs, () => other.reset());
  }

  freeze(direction?: Direction): void {
    this.#setFrozen(direction, true);
  }

  thaw(direction?: Direction): void {
    this.#setFrozen(direction, false);
  }

  #setFrozen(direction: Direction | undefined, frozen: boolean): void {
    if (direction !== 'to-server') this.client.setFrozen(frozen);
    if (direction !== 'to-client') this.server.setFrozen(frozen);
  }

  #receiving(direction: Direction): End {
    return direction === 'to-server' ? this.server : this.client;
  }
}
