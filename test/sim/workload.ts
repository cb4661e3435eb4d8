/**
 * The guest's side: NBD clients on the agent's socket, bursts of requests from a seed, and the log of what was asked and
 * answered, from which the partial order is known.
 *
 * Always holds: a request whose connection went before its answer has an unknown fate. A client that lost its connection comes
 * back for as long as there is something to do.
 */
import {
  type BlockRequest,
  BlockRequest as Request,
  Command,
  CommandFlag,
  connectNbd,
  NbdError,
  type NbdClient,
} from '@rephub/nbd';
import { type Platform, sleep } from '@rephub/platform';
import { type SeededRandomness } from '@rephub/platform/sim';
import { BLOCK_BYTES, type BlockContents } from './block-content.js';
import { type History, type Operation } from './history.js';
import { GUESTS } from './processes.js';

export interface Answered {
  readonly command: Command;
  readonly volume: number;
  readonly block: number;
  readonly blocks: number;
  /** On the history's counter. */
  readonly submitted: number;
  readonly submittedMs: number;
  /** NbdError; ESHUTDOWN: its fate is unknown. */
  readonly error: number;
  /** The server has said so; else the connection went. */
  readonly isTold: boolean;
  /** Of a change. */
  readonly operation: Operation | null;
  /** Of a read: block ids. */
  readonly contents: Int32Array | null;
}

/** A request that waits for its answer. */
export interface OpenRequest {
  readonly command: Command;
  readonly volume: number;
  readonly block: number;
  readonly submittedMs: number;
}

export interface Burst {
  readonly volume: number;
  readonly client: number;
  readonly requests: number;
  readonly depth: number;
  readonly gapMs: number;
  readonly firstBlock: number;
  readonly span: number;
  readonly rareFlushes: boolean;
}

export interface GuestParts {
  readonly platform: () => Pick<Platform, 'clock' | 'network'>;
  readonly contents: BlockContents;
  readonly history: History;
  readonly volumes: readonly { readonly name: string }[];
  readonly answered: (answer: Answered) => void;
  readonly tell: (what: string) => void;
}

const RETRY_MS = 50;

export class Guests {
  /** Requests answered, with whatever outcome. */
  requests = 0;
  /** Submitted and not answered. */
  readonly open = new Set<OpenRequest>();
  /** Rises with every crash of the guests' host: what a block says of its writer. */
  epoch = 0;
  readonly #parts: GuestParts;
  readonly #clients = new Map<string, NbdClient>();
  readonly #connecting = new Map<string, Promise<NbdClient | null>>();
  #stopped = false;

  constructor(parts: GuestParts) {
    this.#parts = parts;
  }

  /** No more requests; bursts under way end. */
  stop(): void {
    this.#stopped = true;
  }

  /** The host of the guests has lost power, or somebody has cut one client off. How many connections that were. */
  forget(client: number | null): number {
    let gone = 0;
    for (const [key, connection] of this.#clients) {
      if (client !== null && !key.endsWith(`/${client}`)) continue;
      this.#clients.delete(key);
      void connection.close();
      gone += 1;
    }
    return gone;
  }

  async burst(burst: Burst, random: SeededRandomness): Promise<void> {
    const { clock } = this.#parts.platform();
    let open = 0;
    let done: (() => void) | null = null;
    for (let request = 0; request < burst.requests && !this.#stopped; request += 1) {
      while (open >= burst.depth) {
        await new Promise<void>((resolve) => {
          done = resolve;
        });
      }
      const client = await this.#client(burst.volume, burst.client);
      if (client === null) return;
      open += 1;
      this.#submit(client, burst, random, () => {
        open -= 1;
        done?.();
        done = null;
      });
      if (burst.gapMs > 0) await sleep(clock, burst.gapMs * random.fraction() * 2);
    }
  }

  /** A read of everything, checked as every read is; false when it could not be done. */
  async readAll(volume: number): Promise<boolean> {
    const client = await this.#client(volume, 0);
    if (client === null) return false;
    const blocks = client.sizeBytes / BLOCK_BYTES;
    let good = true;
    for (let block = 0; block < blocks; block += 256) {
      await new Promise<void>((resolve) => {
        this.#send(client, volume, Command.Read, block, Math.min(256, blocks - block), 0, 0, (error) => {
          good &&= error === 0;
          resolve();
        });
      });
    }
    return good;
  }

  async flush(volume: number): Promise<boolean> {
    const client = await this.#client(volume, 0);
    if (client === null) return false;
    return await new Promise<boolean>((resolve) => {
      this.#send(client, volume, Command.Flush, 0, 0, 0, 0, (error) => {
        resolve(error === 0);
      });
    });
  }

  #submit(client: NbdClient, burst: Burst, random: SeededRandomness, done: () => void): void {
    const dice = random.below(100);
    // A client that came before the disk has grown knows the size of then.
    const span = Math.min(burst.span, client.sizeBytes / BLOCK_BYTES);
    const firstBlock = Math.min(burst.firstBlock, client.sizeBytes / BLOCK_BYTES - span);
    const blocks = Math.min(span, dice % 7 === 0 ? 1 + random.below(16) : 1 + random.below(4));
    const block = firstBlock + random.below(Math.max(1, span - blocks + 1));
    let command: Command = Command.Write;
    if (dice < 14) command = Command.Read;
    else if (dice < 19) command = burst.rareFlushes && random.chance(0.95) ? Command.Write : Command.Flush;
    else if (dice < 25) command = Command.WriteZeroes;
    else if (dice < 31) command = Command.Trim;
    const mayBeForced = command !== Command.Flush;
    const fua = mayBeForced && random.chance(burst.rareFlushes ? 0.01 : 0.08) ? CommandFlag.Fua : 0;
    this.#send(client, burst.volume, command, block, blocks, fua, burst.client, done);
  }

  #send(
    client: NbdClient,
    volume: number,
    command: Command,
    block: number,
    blocks: number,
    flags: number,
    writer: number,
    done: (error: number) => void,
  ): void {
    const { history, contents } = this.#parts;
    const nowMs = this.#parts.platform().clock.monotonicMs();
    const kind = KINDS[command] ?? null;
    const fua = (flags & CommandFlag.Fua) !== 0;
    const operation =
      kind === null ? null : history.submit({ kind, client: writer, volume, block, blocks, fua }, nowMs);
    const submitted = operation?.submitted ?? history.tick();
    const waiting = { command, volume, block, submittedMs: nowMs };
    let isSent = false;
    const request: BlockRequest = new Request({
      completed: ({ error, data }) => {
        this.requests += 1;
        this.open.delete(waiting);
        const endMs = this.#parts.platform().clock.monotonicMs();
        if (error !== NbdError.Eshutdown && operation !== null) history.end(operation, error === 0, endMs);
        if (command === Command.Flush && error === 0) history.flushed(volume, submitted);
        const shown = command === Command.Read && error === 0 ? this.#identify(data, volume, block, blocks) : null;
        const answer = {
          command,
          volume,
          block,
          blocks,
          submitted,
          submittedMs: nowMs,
          error,
          isTold: isSent && client.fault === null,
          operation,
          contents: shown,
        };
        this.#parts.answered(answer);
        done(error);
      },
    });
    request.command = command;
    request.flags = flags;
    if (command !== Command.Flush) {
      request.offset = block * BLOCK_BYTES;
      request.length = blocks * BLOCK_BYTES;
    }
    if (command === Command.Write && operation !== null) {
      const bytes = Buffer.allocUnsafeSlow(blocks * BLOCK_BYTES);
      for (let at = 0; at < blocks; at += 1) {
        const stamp = { operation: operation.id, writer, epoch: this.epoch, volume, block: block + at };
        contents.fill(bytes, at * BLOCK_BYTES, stamp);
      }
      request.data = [bytes];
    }
    this.open.add(waiting);
    client.submit(request);
    // A client that is closed answers by itself, at once.
    isSent = true;
  }

  #identify(data: readonly Buffer[], volume: number, block: number, blocks: number): Int32Array {
    const [only] = data;
    const bytes = data.length === 1 && only !== undefined ? only : Buffer.concat(data);
    const contents = new Int32Array(blocks);
    for (let at = 0; at < blocks; at += 1) {
      contents[at] = this.#parts.contents.identify(bytes, at * BLOCK_BYTES, volume, block + at);
    }
    return contents;
  }

  /** The client's connection; made again when it was lost. Null once nothing is to be done any more. */
  async #client(volume: number, client: number): Promise<NbdClient | null> {
    const name = this.#parts.volumes[volume]?.name ?? '';
    const key = `${name}/${client}`;
    const known = this.#clients.get(key);
    if (known !== undefined && known.fault === null) return known;
    let connecting = this.#connecting.get(key);
    if (connecting === undefined) {
      connecting = this.#connect(name, key);
      this.#connecting.set(key, connecting);
    }
    const connected = await connecting;
    this.#connecting.delete(key);
    return connected;
  }

  async #connect(name: string, key: string): Promise<NbdClient | null> {
    while (!this.#stopped) {
      const platform = this.#parts.platform();
      try {
        const uri = `nbd+unix:///${name}?socket=${GUESTS.kind === 'unix' ? GUESTS.path : ''}`;
        const client = await connectNbd(platform, uri, { timeoutMs: 3000 });
        this.#clients.set(key, client);
        this.#parts.tell(`guest ${key} is connected`);
        return client;
      } catch {
        await sleep(platform.clock, RETRY_MS);
      }
    }
    return null;
  }
}

const KINDS: Partial<Record<Command, 'write' | 'zero' | 'trim'>> = {
  [Command.Write]: 'write',
  [Command.WriteZeroes]: 'zero',
  [Command.Trim]: 'trim',
};
