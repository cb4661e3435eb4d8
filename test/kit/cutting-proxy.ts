/**
 * A bad network in one object: a proxy between two addresses that passes bytes on until told otherwise.
 *
 * It can cut every connection, refuse new ones, go half-open (connections stay, nothing passes, nothing is said),
 * pass one way only, delay, pass only so many bytes a second, and cut at the n-th byte of a direction. Bytes are passed as they come and in order.
 */
import { createServer, connect, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type Address } from './addresses.js';
import { type Scope } from './scope.js';

/** 'up' goes from the client to the target. */
export type Direction = 'up' | 'down';

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
}

export class CuttingProxy {
  readonly #server: Server;
  readonly #target: Address;
  readonly #pairs = new Set<Pair>();
  readonly #silent = new Set<Direction>();
  readonly #cutAt = new Map<Direction, number>();
  #refusing = false;
  #delayMs = 0;
  #bytesPerMs = Infinity;
  #wake: (() => void)[] = [];
  /** Bytes passed on since the start, over all connections. */
  readonly passedBytes: Record<Direction, number> = { up: 0, down: 0 };
  /** Connections accepted and passed on. */
  connections = 0;

  private constructor(server: Server, target: Address) {
    this.#server = server;
    this.#target = target;
    server.on('connection', (client) => {
      this.#accept(client);
    });
  }

  /** Listens on a free port of loopback, or where told, for one target. */
  static async start(scope: Scope, target: Address, at: Address = { port: 0 }): Promise<CuttingProxy> {
    const server = createServer({ pauseOnConnect: true });
    const proxy = new CuttingProxy(server, target);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen('socket' in at ? { path: at.socket } : { port: at.port, host: '127.0.0.1' }, resolve);
    });
    scope.defer('cutting proxy', async () => {
      proxy.pass();
      proxy.cut();
      await new Promise((resolve) => server.close(resolve));
    });
    return proxy;
  }

  /** The port listened on; fails for a Unix socket. */
  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy listens on no port');
    return address.port;
  }

  get openConnections(): number {
    return this.#pairs.size;
  }

  /** Ends every connection at once, both sides, with a reset. New ones are served. */
  cut(): void {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /** Ends every connection and accepts none until `pass`. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** Half-open: what is connected stays so, and nothing more passes in these directions. New connections likewise. */
  swallow(...directions: readonly Direction[]): void {
    for (const direction of directions.length === 0 ? (['up', 'down'] as const) : directions)
      this.#silent.add(direction);
  }

  /** Holds every piece back for so long. */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** No more than so much a second passes to the target, over each connection. */
  slow(bytesPerSecond: number): void {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Cuts all connections as soon as so many more bytes went that way; the last piece is passed up to that byte. */
  cutAfter(bytes: number, direction: Direction): void {
    this.#cutAt.set(direction, this.passedBytes[direction] + bytes);
  }

  /** A good network again. What was swallowed while half-open stays lost, so those connections are cut. */
  pass(): void {
    this.#refusing = false;
    this.#delayMs = 0;
    this.#bytesPerMs = Infinity;
    this.#cutAt.clear();
    if (this.#silent.size > 0) this.cut();
    this.#silent.clear();
    for (const wake of this.#wake.splice(0)) wake();
  }

  #accept(client: Socket): void {
    client.on('error', () => undefined);
    if (this.#refusing) {
      client.resetAndDestroy();
      return;
    }
    const target = 'socket' in this.#target ? connect(this.#target.socket) : connect(this.#target.port, '127.0.0.1');
    client.setNoDelay(true);
    target.setNoDelay(true);
    const pair: Pair = { client, target };
    this.#pairs.add(pair);
    this.connections += 1;
    target.on('error', () => undefined);
    target.on('close', () => {
      this.#close(pair, target);
    });
    client.on('close', () => {
      this.#close(pair, client);
    });
    void this.#pump(pair, 'up', client, target);
    void this.#pump(pair, 'down', target, client);
  }

  /** A half-open network does not even tell that the other side has gone. */
  #close(pair: Pair, closed: Socket): void {
    if (!this.#pairs.has(pair)) return;
    const told: Direction = closed === pair.client ? 'up' : 'down';
    if (this.#silent.has(told)) this.#wake.push(() => this.#end(pair));
    else this.#end(pair);
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair);
    for (const socket of [pair.client, pair.target]) {
      if (socket instanceof Object && 'resetAndDestroy' in socket && !socket.destroyed) socket.resetAndDestroy();
    }
  }

  async #pump(pair: Pair, direction: Direction, from: Socket, to: Socket): Promise<void> {
    try {
      for await (const piece of from as AsyncIterable<Buffer>) {
        const holdMs = this.#delayMs + (direction === 'up' ? piece.length / this.#bytesPerMs : 0);
        if (holdMs > 0) await delay(holdMs);
        if (this.#silent.has(direction)) continue;
        const limit = this.#cutAt.get(direction);
        const rest = limit === undefined ? piece.length : limit - this.passedBytes[direction];
        const passed = piece.length < rest ? piece : piece.subarray(0, Math.max(0, rest));
        this.passedBytes[direction] += passed.length;
        const more = to.write(passed);
        if (limit !== undefined && this.passedBytes[direction] >= limit) {
          this.#cutAt.delete(direction);
          // The last piece leaves before the connection does.
          await new Promise<void>((resolve) => to.write('', () => resolve()));
          this.cut();
          return;
        }
        if (!more) await new Promise<void>((resolve) => void to.once('drain', resolve).once('close', resolve));
      }
      if (!this.#silent.has(direction) && !to.destroyed) to.end();
    } catch {
      this.#close(pair, from);
    }
  }
}
