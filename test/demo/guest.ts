/**
 * The demo's guest: writes through the agent's NBD export as a VM would, at random places, a few requests
 * in flight, with a flush now and then; and reads, to show that it never waits for the hub.
 */
import { connectNbd, flushDevice, type NbdClient, writeBytes } from '@rephub/nbd';
import { type Platform } from '@rephub/platform';
import { setTimeout as sleep } from 'node:timers/promises';

const IN_FLIGHT = 16;
const WRITES_PER_SECOND = 1000;
const FLUSH_EVERY = 500;
const SIZES = [4096, 4096, 4096, 16_384, 65_536] as const;

export class Guest {
  writes = 0;
  bytes = 0;
  slowestMs = 0;
  readonly #client: NbdClient;
  readonly #hotBytes: number;
  #seed = 0x2545f491;
  #stop = false;
  #dueMs = 0;
  #lanes: Promise<void>[] = [];

  private constructor(client: NbdClient, hotBytes: number) {
    this.#client = client;
    this.#hotBytes = hotBytes;
  }

  /** Writes go to the first `hotBytes` of the disk. */
  static async connect(platform: Platform, uri: string, hotBytes: number): Promise<Guest> {
    return new Guest(await connectNbd(platform, uri), hotBytes);
  }

  /** Writes until `pause`. */
  start(): void {
    this.#stop = false;
    this.#dueMs = performance.now();
    this.#lanes = Array.from({ length: IN_FLIGHT }, () => this.#lane());
  }

  async pause(): Promise<void> {
    this.#stop = true;
    await Promise.all(this.#lanes);
    await flushDevice(this.#client);
  }

  async disconnect(): Promise<void> {
    await this.#client.close();
  }

  async #lane(): Promise<void> {
    while (!this.#stop) {
      const size = SIZES[this.#random() % SIZES.length] ?? 4096;
      const offset = Math.floor((this.#random() % this.#hotBytes) / size) * size;
      const data = Buffer.alloc(size, `write ${this.writes} at ${offset} `);
      await this.#pace();
      const begun = performance.now();
      await writeBytes(this.#client, offset, data);
      this.slowestMs = Math.max(this.slowestMs, performance.now() - begun);
      this.writes++;
      this.bytes += size;
      if (this.writes % FLUSH_EVERY === 0) await flushDevice(this.#client);
    }
  }

  /** As a busy VM would: not more than so many writes a second. */
  async #pace(): Promise<void> {
    this.#dueMs = Math.max(this.#dueMs, performance.now() - 50) + 1000 / WRITES_PER_SECOND;
    const waitMs = this.#dueMs - performance.now();
    if (waitMs > 1) await sleep(waitMs);
  }

  /** xorshift: the same writes on every run. */
  #random(): number {
    let x = this.#seed;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#seed = x >>> 0;
    return this.#seed;
  }
}
