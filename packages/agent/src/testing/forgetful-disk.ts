/**
 * An upstream that makes use of every freedom it has: a write is in a cache until it is flushed, one cache for all or one
 * for each connection; a lost connection loses its cache; a flush that fails drops what it should have
 * written, and the next one succeeds as if nothing had been; what was in flight may have been done, or in part.
 */
import { type Abilities, type BlockRequest, Command, CommandFlag, DEFAULT_LIMITS, NbdError } from '@rephub/nbd';
import { type Clock, type Fault, LinkFault } from '@rephub/platform';
import { type OpenUpstream, type UpstreamConnection } from '../upstream/lane.js';

export const BLOCK_BYTES = 512;

export interface ForgetfulOptions {
  readonly sizeBytes: number;
  /** Each connection has a cache of its own, for what it writes and what it reads. */
  readonly cachePerConnection?: boolean;
  readonly abilities?: Partial<Abilities>;
  /** How long a request takes; 0: answered at once. */
  delayMs?: (request: BlockRequest, connection: number) => number;
  /** Whether an interrupted write was done, for each block of it. */
  readonly halfDone?: () => boolean;
}

type Cache = Map<number, Buffer>;

export class ForgetfulDisk {
  /** What survives everything. */
  readonly stable: Buffer;
  readonly connections: ForgetfulConnection[] = [];
  /** Every request that was answered well, in order. */
  readonly done: { command: Command; offset: number; connection: number }[] = [];
  readonly options: ForgetfulOptions;
  /** Connections that will be refused. */
  refuse = 0;
  opened = 0;
  /** What the next answers are; asked before anything is done. 0: well. */
  verdict: (request: BlockRequest, connection: number) => number = () => 0;
  readonly #clock: Clock;
  #shared: Cache = new Map();

  constructor(clock: Clock, options: ForgetfulOptions) {
    this.#clock = clock;
    this.options = options;
    this.stable = Buffer.alloc(options.sizeBytes);
  }

  readonly open: OpenUpstream = (lost) => {
    this.opened++;
    if (this.refuse > 0) {
      this.refuse--;
      return Promise.reject(new LinkFault('connect-refused', 'nobody there'));
    }
    const cache = this.options.cachePerConnection === true ? (new Map() as Cache) : this.#shared;
    const connection = new ForgetfulConnection(this, this.#clock, cache, lost, this.opened);
    this.connections.push(connection);
    return Promise.resolve(connection);
  };

  /** The server dies: every cache is gone, every connection lost. */
  die(): void {
    this.#shared = new Map();
    for (const connection of [...this.connections]) connection.lose();
  }

  /** What a new connection would read. */
  content(): Buffer {
    const content = Buffer.from(this.stable);
    const caches =
      this.options.cachePerConnection === true ? this.connections.map(({ cache }) => cache) : [this.#shared];
    for (const cache of caches) for (const [block, bytes] of cache) bytes.copy(content, block * BLOCK_BYTES);
    return content;
  }
}

class ForgetfulConnection implements UpstreamConnection {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits = DEFAULT_LIMITS;
  readonly cache: Cache;
  /** Blocks of the cache that are not stable. */
  readonly #dirty = new Set<number>();
  readonly #disk: ForgetfulDisk;
  readonly #clock: Clock;
  readonly #tell: (fault: Fault) => void;
  readonly #number: number;
  #inFlight: BlockRequest[] = [];
  #isLost = false;

  constructor(disk: ForgetfulDisk, clock: Clock, cache: Cache, tell: (fault: Fault) => void, number: number) {
    this.#disk = disk;
    this.#clock = clock;
    this.#tell = tell;
    this.#number = number;
    this.cache = cache;
    this.sizeBytes = disk.options.sizeBytes;
    this.abilities = {
      ...{ readOnly: false, flush: true, fua: true, trim: true, writeZeroes: true, fastZero: false, cache: true },
      ...{ multiConn: disk.options.cachePerConnection !== true, contexts: [] },
      ...disk.options.abilities,
    };
  }

  get inFlight(): number {
    return this.#inFlight.length;
  }

  submit(request: BlockRequest): void {
    const delayMs = this.#disk.options.delayMs?.(request, this.#number) ?? 0;
    if (delayMs === 0) {
      this.#answer(request);
      return;
    }
    this.#inFlight.push(request);
    this.#clock.after(delayMs, () => {
      const at = this.#inFlight.indexOf(request);
      if (at < 0 || this.#isLost) return;
      this.#inFlight.splice(at, 1);
      this.#answer(request);
    });
  }

  takeUnfinished(): BlockRequest[] {
    const taken = this.#inFlight;
    this.#inFlight = [];
    return taken;
  }

  /** The connection breaks; with a cache of its own that is gone too. */
  lose(): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const { halfDone } = this.#disk.options;
    for (const request of this.#inFlight) {
      if (request.command === Command.Write) this.#write(request, halfDone ?? (() => false));
    }
    this.#gone();
    this.#tell(new LinkFault('connection-lost', 'gone'));
  }

  close(): Promise<void> {
    if (!this.#isLost) {
      this.#isLost = true;
      this.#gone();
    }
    return Promise.resolve();
  }

  #gone(): void {
    const { connections } = this.#disk;
    connections.splice(connections.indexOf(this), 1);
    if (this.#disk.options.cachePerConnection === true) this.cache.clear();
  }

  #answer(request: BlockRequest): void {
    const error = this.#disk.verdict(request, this.#number);
    if (error !== 0) {
      if (request.command === Command.Flush || (request.flags & CommandFlag.Fua) !== 0) this.#forget();
      request.complete(error);
      return;
    }
    if (request.command === Command.Read) this.#read(request);
    else if (request.command === Command.Flush) this.#flush();
    else this.#write(request, () => true);
    if ((request.flags & CommandFlag.Fua) !== 0) this.#stabilise(request.offset, request.length);
    this.#disk.done.push({ command: request.command, offset: request.offset, connection: this.#number });
    request.complete(NbdError.Ok);
  }

  #read(request: BlockRequest): void {
    for (let at = 0; at < request.length; at += BLOCK_BYTES) {
      const block = (request.offset + at) / BLOCK_BYTES;
      const start = block * BLOCK_BYTES;
      const cached = this.cache.get(block);
      const bytes = cached ?? Buffer.from(this.#disk.stable.subarray(start, start + BLOCK_BYTES));
      // What was once read stays as it was: a cache that nobody tells of other connections' writes.
      if (cached === undefined && this.#disk.options.cachePerConnection === true) this.cache.set(block, bytes);
      request.data.push(Buffer.from(bytes));
    }
  }

  #write(request: BlockRequest, does: () => boolean): void {
    const bytes = request.command === Command.Write ? Buffer.concat(request.data) : Buffer.alloc(request.length);
    for (let at = 0; at < request.length; at += BLOCK_BYTES) {
      if (!does()) continue;
      const block = (request.offset + at) / BLOCK_BYTES;
      this.cache.set(block, Buffer.from(bytes.subarray(at, at + BLOCK_BYTES)));
      this.#dirty.add(block);
    }
  }

  #flush(): void {
    const all = this.#disk.options.cachePerConnection === true ? this.#dirty : this.cache.keys();
    for (const block of all) this.cache.get(block)?.copy(this.#disk.stable, block * BLOCK_BYTES);
    this.#dirty.clear();
    // As after a flush of its own, it reads anew what others have written.
    this.cache.clear();
  }

  #stabilise(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += BLOCK_BYTES) {
      this.cache.get(at / BLOCK_BYTES)?.copy(this.#disk.stable, at);
      this.#dirty.delete(at / BLOCK_BYTES);
    }
  }

  /** A failed flush: what was dirty is gone, and nobody will hear of it again. */
  #forget(): void {
    this.#dirty.clear();
    this.cache.clear();
  }
}
