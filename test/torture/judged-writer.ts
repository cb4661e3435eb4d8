/**
 * A guest that outlives its server: writes, zeroes, reads and flushes an NBD export at random, connects again whenever the
 * connection is lost, and keeps a ledger of what was acknowledged. What it reads it judges at once.
 *
 * Always holds: no two of its requests overlap; a write whose connection was lost before its answer counts as unknown.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  connectNbd,
  DeviceError,
  flushDevice,
  type NbdClient,
  NbdError,
  readBytes,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { SeededRandomness } from '@rephub/platform/sim';
import { BLOCK_BYTES, type Ledger } from './ledger.js';

export interface WriterOptions {
  readonly uri: string;
  readonly ledger: Ledger;
  readonly seed: number;
  readonly requestsInFlight: number;
  readonly requestsPerSecond: number;
  /** How often an agent has found that one before it, and upstream, were lost together: each time a flush must fail (FLUSH). */
  readonly losses: () => number;
  /** Something that must not happen to a guest. */
  readonly violated: (what: string) => void;
}

export interface WriterFigures {
  writes: number;
  writtenBytes: number;
  reads: number;
  flushes: number;
  failedFlushes: number;
  connections: number;
  /** Writes whose answer was lost with the connection. */
  unknownWrites: number;
}

const MOST_BLOCKS = 16;
const FLUSH_EVERY_MS = 250;

export class JudgedWriter {
  readonly figures: WriterFigures = {
    writes: 0,
    writtenBytes: 0,
    reads: 0,
    flushes: 0,
    failedFlushes: 0,
    connections: 0,
    unknownWrites: 0,
  };
  readonly #options: WriterOptions;
  readonly #dice: SeededRandomness;
  readonly #busy: Uint8Array;
  readonly #platform = nodePlatform();
  #client: NbdClient | null = null;
  #connecting: Promise<NbdClient | null> | null = null;
  #stopping = false;
  #lossesTold = 0;
  readonly #running: Promise<void>;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#dice = new SeededRandomness(options.seed);
    this.#busy = new Uint8Array(options.ledger.blocks);
    const workers = Array.from({ length: options.requestsInFlight }, async () => await this.#work());
    this.#running = Promise.all([...workers, this.#flushNowAndThen()]).then(() => undefined);
  }

  /** No new requests; resolves when those under way are answered and a last flush has succeeded. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    await this.#flush();
    await this.#client?.close();
  }

  async #work(): Promise<void> {
    const pauseMs = (2000 * this.#options.requestsInFlight) / this.#options.requestsPerSecond;
    while (!this.#stopping) {
      const client = await this.#connected();
      if (client === null) return;
      await this.#request(client);
      await delay(this.#dice.fraction() * pauseMs);
    }
  }

  async #request(client: NbdClient): Promise<void> {
    const range = this.#pickFreeRange();
    if (range === null) return;
    const [first, blocks] = range;
    this.#busy.fill(1, first, first + blocks);
    try {
      if (this.#dice.chance(0.2)) await this.#readAndJudge(client, first, blocks);
      else await this.#write(client, first, blocks);
    } catch (error) {
      this.#judgeFailure(error);
    } finally {
      this.#busy.fill(0, first, first + blocks);
    }
  }

  /** A few blocks are written over and over, the rest seldom. */
  #pickFreeRange(): readonly [first: number, blocks: number] | null {
    const total = this.#busy.length;
    const within = this.#dice.chance(0.5) ? Math.max(MOST_BLOCKS * 2, total >> 6) : total;
    const blocks = this.#dice.chance(0.6) ? 1 : 1 + this.#dice.below(MOST_BLOCKS);
    const first = this.#dice.below(within - blocks);
    return this.#busy.subarray(first, first + blocks).includes(1) ? null : [first, blocks];
  }

  async #readAndJudge(client: NbdClient, first: number, blocks: number): Promise<void> {
    const bytes = await readBytes(client, first * BLOCK_BYTES, blocks * BLOCK_BYTES);
    this.figures.reads += 1;
    for (let index = 0; index < blocks; index += 1) {
      const block = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
      const fault = this.#options.ledger.judgeNow(first + index, block);
      if (fault !== null) this.#options.violated(`GUEST: a read: ${fault}`);
    }
  }

  async #write(client: NbdClient, first: number, blocks: number): Promise<void> {
    const { ledger } = this.#options;
    const zero = this.#dice.chance(0.1);
    const fua = this.#dice.chance(0.1);
    const write = ledger.submit(zero ? 'zero' : 'data', first, blocks);
    const bytes = blocks * BLOCK_BYTES;
    try {
      if (zero) await zeroRange(client, first * BLOCK_BYTES, bytes);
      else await writeBytes(client, first * BLOCK_BYTES, ledger.content(write), fua);
    } catch (error) {
      this.figures.unknownWrites += 1;
      throw error;
    }
    ledger.acknowledge(write);
    this.figures.writes += 1;
    this.figures.writtenBytes += bytes;
  }

  async #flushNowAndThen(): Promise<void> {
    while (!this.#stopping) {
      await this.#flush();
      await delay(FLUSH_EVERY_MS);
    }
  }

  /** Until one has succeeded, when stopping; once, otherwise. */
  async #flush(): Promise<void> {
    for (;;) {
      const client = await this.#connected();
      if (client === null) return;
      const submittedAt = this.#options.ledger.flushing();
      try {
        await flushDevice(client);
        this.#options.ledger.flushed(submittedAt);
        this.figures.flushes += 1;
        return;
      } catch (error) {
        this.figures.failedFlushes += 1;
        if (!this.#tellsLoss(error)) this.#judgeFailure(error);
        if (!this.#stopping) return;
        await delay(50);
      }
    }
  }

  #tellsLoss(error: unknown): boolean {
    const isTold = error instanceof DeviceError && error.nbdError === NbdError.Eio;
    if (!isTold || this.#lossesTold >= this.#options.losses()) return false;
    this.#lossesTold += 1;
    return true;
  }

  /** A lost connection is what is being tried; any other error is one that the guest should not see. */
  #judgeFailure(error: unknown): void {
    if (error instanceof DeviceError && error.nbdError === NbdError.Eshutdown) return;
    this.#options.violated(`GUEST: ${error instanceof Error ? error.message : String(error)}`);
  }

  /** The connection, or a new one, however long that takes. Null when the writer stops without one. */
  async #connected(): Promise<NbdClient | null> {
    if (this.#client !== null) return this.#client;
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = null;
    });
    return await this.#connecting;
  }

  async #connect(): Promise<NbdClient | null> {
    for (let left = 3000; left > 0; left -= 1) {
      try {
        const state = { lost: false };
        const client = await connectNbd(this.#platform, this.#options.uri, {
          timeoutMs: 2000,
          lost: () => {
            state.lost = true;
            this.#client = null;
          },
        });
        if (state.lost) continue;
        this.#client = client;
        this.figures.connections += 1;
        return client;
      } catch {
        await delay(50);
      }
    }
    this.#options.violated('GUEST: the agent could not be reached for minutes');
    return null;
  }
}
