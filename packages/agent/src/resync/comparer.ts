/**
 * Which copies are compared with the hub first, so that only what differs is sent: those of a span whose marks say little
 * (untrusted tracking, a crash, a seeded base), not those of an outage, which nearly all differ.
 *
 * Always holds (docs/design.md, "Comparing by checksum"): an answer is used only while nothing has come between that it
 * cannot know of: a write that was not streamed, or whose fate is unknown, or a hub that began anew.
 * Must not know: how content is read, what a mark is.
 */
import { type Clock, sleep } from '@rephub/platform';
import { BLOCK_BYTES, CompareGauge } from './compare.js';
import { type Answer, type HashClient } from './hash-client.js';
import { type Mirror } from '../mirror/mirror.js';

export interface Comparison {
  readonly answer: Answer;
  readonly disruptions: number;
}

/** While the link is away. */
const LINK_POLL_MS = 100;

export class Comparer {
  readonly #clock: Clock;
  readonly #mirror: Mirror;
  readonly #client: HashClient;
  #gauge: CompareGauge | null = null;

  constructor(clock: Clock, mirror: Mirror, client: HashClient) {
    this.#clock = clock;
    this.#mirror = mirror;
    this.#client = client;
  }

  /** Copies are compared first, until `stop`. */
  start(): void {
    this.#gauge ??= new CompareGauge();
  }

  /** Nothing is dirty any more, or all is to be sent. */
  stop(): void {
    this.#gauge = null;
  }

  get isOn(): boolean {
    return this.#gauge !== null && this.#client.available;
  }

  /**
   * What the hub holds there; null: not to be compared, or not to be had. While the link is away nothing can arrive, so what
   * need not be sent waits until it is back, or `isWanted` no longer.
   */
  async ask(volume: number, offset: number, length: number, isWanted: () => boolean): Promise<Comparison | null> {
    for (;;) {
      while (this.#isAway && isWanted()) await sleep(this.#clock, LINK_POLL_MS);
      if (!isWanted() || this.#gauge?.worthwhile() !== true) return null;
      const { disruptions, lastNumber } = this.#mirror;
      const answer = await this.#client.ask({ number: lastNumber, volume, offset, length, blockBytes: BLOCK_BYTES });
      if (answer !== null) return { answer, disruptions };
      if (!this.#isAway) return null;
    }
  }

  get #isAway(): boolean {
    return this.#gauge !== null && !this.#mirror.linked;
  }

  /** Does the answer still tell what the hub will hold? To be asked in the turn in which it is acted upon. */
  isValid(comparison: Comparison): boolean {
    return comparison.disruptions === this.#mirror.disruptions;
  }

  found(sameBytes: number, differingBytes: number): void {
    this.#gauge?.found(sameBytes, differingBytes);
  }
}
