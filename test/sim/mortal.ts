/**
 * A host whose process can be killed or stopped (SIGSTOP) at any moment. Killed: none of its timers run any more, its sockets
 * are gone, nothing of what it waits for ever comes. Stopped: the same, but what it missed comes when it goes on. What
 * it left on its disk is decided by the crash.
 *
 * Must not know: what the process is.
 */
import {
  type Address,
  type Clock,
  type Connection,
  type FileLock,
  type FileSystem,
  type Listener,
  type Network,
  type OpenFile,
  type Platform,
  type ReceiveOptions,
  type Receiver,
  type Timer,
} from '@rephub/platform';
import { type SimPlatform } from '@rephub/platform/sim';

export interface Mortal {
  readonly platform: Platform;
  readonly isAlive: boolean;
  readonly isStopped: boolean;
  /** The process dies: connections reset, listeners gone, no timer runs. Its files are the caller's to crash. */
  kill(): void;
  /** It does not run until `resume`; the network keeps what comes for it. */
  stop(): void;
  resume(): void;
}

/** Lets the test look at, or spoil, what a process's connections carry. */
export type Tap = (connection: Connection, address: Address, side: 'client' | 'server') => Connection;

const untapped: Tap = (connection) => connection;

export function mortal(host: SimPlatform, tap: Tap = untapped): Mortal {
  const life = new Life();
  const listeners = new Set<Listener>();
  const connections = new Set<StoppableConnection>();
  const adopt = (connection: Connection, address: Address, side: 'client' | 'server'): Connection => {
    const own = new StoppableConnection(tap(connection, address, side), life, () => connections.delete(own));
    connections.add(own);
    if (!life.isAlive) own.destroy();
    return own;
  };
  const clock: Clock = {
    monotonicMs: () => host.clock.monotonicMs(),
    unixMs: () => host.clock.unixMs(),
    after: (delayMs, run): Timer => {
      let cancelled = false;
      const timer = host.clock.after(delayMs, () =>
        life.run(() => {
          if (!cancelled) run();
        }),
      );
      return {
        cancel: () => {
          cancelled = true;
          timer.cancel();
        },
      };
    },
  };
  const network: Network = {
    connect: async (address, options) =>
      adopt(await life.pass(host.network.connect(address, options)), address, 'client'),
    listen: async (address, accept) => {
      const listener = await life.pass(
        host.network.listen(address, (connection) => {
          const own = adopt(connection, address, 'server');
          life.run(() => {
            accept(own);
          });
        }),
      );
      listeners.add(listener);
      return listener;
    },
  };
  return {
    platform: {
      clock,
      network,
      files: new MortalFiles(host.files, life),
      randomness: host.randomness,
      codecs: host.codecs,
    },
    get isAlive() {
      return life.isAlive;
    },
    get isStopped() {
      return life.isStopped;
    },
    kill: () => {
      life.isAlive = false;
      for (const listener of listeners) void listener.close();
      for (const connection of [...connections]) connection.die();
    },
    stop: () => {
      life.isStopped = true;
      for (const connection of connections) connection.stop();
    },
    resume: () => {
      life.resume();
      for (const connection of connections) connection.goOn();
    },
  };
}

class Life {
  isAlive = true;
  isStopped = false;
  #missed: (() => void)[] = [];

  run(what: () => void): void {
    if (!this.isAlive) return;
    if (this.isStopped) this.#missed.push(what);
    else what();
  }

  resume(): void {
    this.isStopped = false;
    const missed = this.#missed;
    this.#missed = [];
    for (const what of missed) this.run(what);
  }

  /** The outcome of what the process waits for, when it can take it; a dead one waits for ever. */
  async pass<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await work;
      if (!this.isAlive || this.isStopped) await this.#turn();
      return result;
    } catch (fault) {
      if (!this.isAlive || this.isStopped) await this.#turn();
      throw fault;
    }
  }

  async #turn(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.run(resolve);
    });
  }
}

class StoppableConnection implements Connection {
  readonly #inner: Connection;
  readonly #life: Life;
  readonly #gone: () => void;
  #pausedByOwner = false;

  constructor(inner: Connection, life: Life, gone: () => void) {
    this.#inner = inner;
    this.#life = life;
    this.#gone = gone;
  }

  get peer(): string {
    return this.#inner.peer;
  }
  get queuedBytes(): number {
    return this.#inner.queuedBytes;
  }
  get congested(): boolean {
    return this.#inner.congested;
  }

  start(receiver: Receiver, options?: ReceiveOptions): void {
    const life = this.#life;
    this.#inner.start(
      {
        // A chunk that is lent or counted cannot be kept for later: a stopped process's connections are paused.
        received: (chunk) => {
          if (life.isAlive && !life.isStopped) receiver.received(chunk);
          else if (life.isAlive) {
            const copy = Buffer.from(chunk);
            life.run(() => {
              receiver.received(copy);
            });
          }
        },
        drained: () => {
          life.run(() => {
            receiver.drained();
          });
        },
        ended: () => {
          life.run(() => {
            receiver.ended();
          });
        },
        closed: (error) => {
          this.#gone();
          life.run(() => {
            receiver.closed(error);
          });
        },
      },
      options,
    );
  }

  send(chunk: Uint8Array): void {
    this.#inner.send(chunk);
  }
  pause(): void {
    this.#pausedByOwner = true;
    this.#inner.pause();
  }
  resume(): void {
    this.#pausedByOwner = false;
    if (!this.#life.isStopped) this.#inner.resume();
  }
  end(): void {
    this.#inner.end();
  }
  destroy(): void {
    this.#inner.destroy();
  }

  die(): void {
    this.#inner.destroy();
  }
  stop(): void {
    this.#inner.pause();
  }
  goOn(): void {
    if (!this.#pausedByOwner) this.#inner.resume();
  }
}

/** The host's files, as far as the process lives to hear of them. */
class MortalFiles implements FileSystem {
  readonly #files: FileSystem;
  readonly #life: Life;

  constructor(files: FileSystem, life: Life) {
    this.#files = files;
    this.#life = life;
  }

  async open(...args: Parameters<FileSystem['open']>): Promise<OpenFile> {
    return new MortalFile(await this.#life.pass(this.#files.open(...args)), this.#life);
  }
  status(path: string): ReturnType<FileSystem['status']> {
    return this.#life.pass(this.#files.status(path));
  }
  list(directory: string): Promise<string[]> {
    return this.#life.pass(this.#files.list(directory));
  }
  makeDirectory(directory: string): Promise<void> {
    return this.#life.pass(this.#files.makeDirectory(directory));
  }
  rename(from: string, to: string): Promise<void> {
    return this.#life.pass(this.#files.rename(from, to));
  }
  remove(path: string): Promise<void> {
    return this.#life.pass(this.#files.remove(path));
  }
  removeTree(directory: string): Promise<void> {
    return this.#life.pass(this.#files.removeTree(directory));
  }
  syncDirectory(directory: string): Promise<void> {
    return this.#life.pass(this.#files.syncDirectory(directory));
  }
  lock(path: string): Promise<FileLock | null> {
    return this.#life.pass(this.#files.lock(path));
  }
  room(path: string): ReturnType<FileSystem['room']> {
    return this.#life.pass(this.#files.room(path));
  }
}

class MortalFile implements OpenFile {
  readonly #file: OpenFile;
  readonly #life: Life;

  constructor(file: OpenFile, life: Life) {
    this.#file = file;
    this.#life = life;
  }

  read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#life.pass(this.#file.read(buffer, position));
  }
  write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    return this.#life.pass(this.#file.write(chunks, position));
  }
  sync(): Promise<void> {
    return this.#life.pass(this.#file.sync());
  }
  status(): ReturnType<OpenFile['status']> {
    return this.#life.pass(this.#file.status());
  }
  truncate(sizeBytes: number): Promise<void> {
    return this.#life.pass(this.#file.truncate(sizeBytes));
  }
  allocate(position: number, lengthBytes: number): Promise<void> {
    return this.#life.pass(this.#file.allocate(position, lengthBytes));
  }
  punch(position: number, lengthBytes: number): Promise<void> {
    return this.#life.pass(this.#file.punch(position, lengthBytes));
  }
  nextData(position: number): ReturnType<OpenFile['nextData']> {
    return this.#life.pass(this.#file.nextData(position));
  }
  close(): Promise<void> {
    return this.#life.pass(this.#file.close());
  }
}
