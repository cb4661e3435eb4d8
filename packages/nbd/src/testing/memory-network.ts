/**
 * Connections in memory, for tests without sockets: bytes sent in one turn arrive in a later one, cut as
 * the test wants. Congestion, pausing, half-close and loss behave as with real ones.
 */
import {
  type Address,
  type Connection,
  formatAddress,
  LinkFault,
  type Listener,
  type Network,
  type Receiver,
} from '@rephub/platform';

const HIGH_WATER_BYTES = 1024 * 1024;

/** Cuts what was sent in one turn into the chunks that arrive. */
export type Cutter = (bytes: Buffer) => Buffer[];

export const uncut: Cutter = (bytes) => [bytes];

class MemoryConnection implements Connection {
  readonly peer: string;
  other: MemoryConnection | null = null;
  queuedBytes = 0;
  congested = false;
  readonly #cut: Cutter;
  #queue: Buffer[] = [];
  #receiver: Receiver | null = null;
  #isPaused = false;
  #isDue = false;
  #isEnding = false;
  #hasEnded = false;
  #isGone = false;
  #isTold = false;

  constructor(peer: string, cut: Cutter) {
    this.peer = peer;
    this.#cut = cut;
  }

  get isReading(): boolean {
    return this.#receiver !== null && !this.#isPaused;
  }

  start(receiver: Receiver): void {
    this.#receiver = receiver;
    this.other?.deliverSoon();
    if (this.#isGone) this.#tellSoon(null);
  }

  send(chunk: Uint8Array): void {
    if (this.#isGone || this.#isEnding) return;
    this.#queue.push(Buffer.from(chunk));
    this.queuedBytes += chunk.length;
    if (this.queuedBytes > HIGH_WATER_BYTES) this.congested = true;
    this.deliverSoon();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.other?.deliverSoon();
  }

  end(): void {
    this.#isEnding = true;
    this.deliverSoon();
  }

  destroy(): void {
    if (this.#isGone) return;
    this.vanish(null);
    this.other?.vanish(null);
  }

  /** Breaks as a network does: both sides learn of an error. */
  vanish(error: Error | null): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#queue = [];
    this.#tellSoon(error);
  }

  deliverSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      this.#deliver();
    });
  }

  #canDeliver(other: MemoryConnection): boolean {
    return other.isReading && !this.#isGone;
  }

  #deliver(): void {
    const { other } = this;
    if (other === null || !this.#canDeliver(other)) return;
    if (this.#queue.length > 0) {
      const chunks = this.#cut(Buffer.concat(this.#queue));
      this.#queue = [];
      let next = 0;
      for (; next < chunks.length && this.#canDeliver(other); next++) {
        const chunk = chunks[next];
        if (chunk === undefined) break;
        this.queuedBytes -= chunk.length;
        other.#receiver?.received(chunk);
      }
      // What was sent meanwhile comes after what is left.
      if (next < chunks.length && !this.#isGone) this.#queue = chunks.slice(next).concat(this.#queue);
      if (this.congested && this.queuedBytes < HIGH_WATER_BYTES / 4) {
        this.congested = false;
        this.#receiver?.drained();
      }
    }
    if (this.#isEnding && this.#queue.length === 0 && !this.#hasEnded) {
      this.#hasEnded = true;
      other.#receiver?.ended();
      if (other.#hasEnded) {
        this.vanish(null);
        other.vanish(null);
      }
    }
  }

  #tellSoon(error: Error | null): void {
    queueMicrotask(() => {
      if (this.#isTold || this.#receiver === null) return;
      this.#isTold = true;
      this.#receiver.closed(error);
    });
  }
}

/** Two ends of one connection. `cut` applies in both directions. */
export function connectionPair(cut: Cutter = uncut): readonly [Connection, Connection] {
  const one = new MemoryConnection('memory a', cut);
  const two = new MemoryConnection('memory b', cut);
  one.other = two;
  two.other = one;
  return [one, two];
}

/** A network in memory: listeners by address, every connection a pair. */
export function memoryNetwork(cut: Cutter = uncut): Network {
  const listeners = new Map<string, (connection: Connection) => void>();
  return {
    connect(address: Address) {
      const name = formatAddress(address);
      const accept = listeners.get(name);
      if (accept === undefined) {
        return Promise.reject(new LinkFault('connect-refused', `nobody listens on ${name}`));
      }
      const [near, far] = connectionPair(cut);
      accept(far);
      return Promise.resolve(near);
    },
    listen(address: Address, accept: (connection: Connection) => void) {
      const name = formatAddress(address);
      if (listeners.has(name)) {
        return Promise.reject(new LinkFault('address-in-use', `something listens on ${name} already`));
      }
      listeners.set(name, accept);
      const listener: Listener = {
        address,
        close() {
          listeners.delete(name);
          return Promise.resolve();
        },
      };
      return Promise.resolve(listener);
    },
  };
}
