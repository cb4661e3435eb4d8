/**
 * Digests of the hub's content, asked over the link while one is up and both sides can do it.
 *
 * Always holds: a question about number N leaves before record N + 1 does (it is sent in the turn in which N is the
 * mirror's last number), so the hub can answer for exactly that number; every question ends with an answer that fits it, or with null.
 * Must not know: what is compared and why.
 */
import { type Clock, ProtocolFault, type Randomness, type Timer } from '@rephub/platform';
import { HASH_KEY_BYTES, HashedRegion, type Hashes, type HashRegion } from '@rephub/protocol';

/** Questions under way at once; the hub takes 32. */
const MAX_ASKED = 24;

export interface Question {
  readonly number: number;
  readonly volume: number;
  readonly offset: number;
  readonly length: number;
  readonly blockBytes: number;
}

export interface Answer {
  readonly region: HashedRegion;
  /** Digests to be compared are made with this. */
  readonly key: Buffer;
}

interface Asked {
  readonly request: HashRegion;
  readonly timer: Timer | null;
  readonly settle: (answer: Answer | null) => void;
}

export class HashClient {
  readonly #clock: Clock;
  readonly #randomness: Randomness;
  readonly #asked = new Map<number, Asked>();
  #send: ((request: HashRegion) => void) | null = null;
  #key: Buffer = Buffer.alloc(HASH_KEY_BYTES);
  #lastTag = 0;
  #lastRefusal: string | null = null;
  /** Out of time, and not answered yet: the hub still counts them. */
  readonly #expired = new Set<number>();
  #unanswered = 0;

  constructor(clock: Clock, randomness: Randomness) {
    this.#clock = clock;
    this.#randomness = randomness;
  }

  /** The link is up, and the hub can do it. */
  get available(): boolean {
    return this.#send !== null;
  }

  /** Why there was no answer when there last was none. */
  get lastRefusal(): string | null {
    return this.#lastRefusal;
  }

  /** Questions that ran out of time since the hub last answered one. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** A session with a hub that has the feature; the key is drawn for it alone. */
  linkUp(send: (request: HashRegion) => void): void {
    this.#key = this.#randomness.bytes(HASH_KEY_BYTES);
    this.#send = send;
    this.#unanswered = 0;
  }

  linkDown(): void {
    this.#send = null;
    this.#expired.clear();
    for (const tag of [...this.#asked.keys()]) this.#settle(tag, null);
  }

  /**
   * Null: no answer can be had now (no link, too many questions, refused, or out of time). `number` must be the mirror's
   * last number in this very turn.
   */
  ask(question: Question, timeoutMs: number | null = null): Promise<Answer | null> {
    const send = this.#send;
    if (send === null || this.#asked.size + this.#expired.size >= MAX_ASKED) return Promise.resolve(null);
    this.#lastTag = this.#lastTag === 0xffff_ffff ? 1 : this.#lastTag + 1;
    const tag = this.#lastTag;
    const { number, volume, offset, length, blockBytes } = question;
    const request = { tag, number, volume, offset, length, blockBytes, key: this.#key };
    return new Promise((settle) => {
      const expire = (): void => {
        this.#expired.add(tag);
        this.#unanswered += 1;
        this.#lastRefusal = `the hub did not answer in ${(timeoutMs ?? 0) / 1000} seconds`;
        this.#settle(tag, null);
      };
      this.#asked.set(tag, {
        request,
        settle,
        timer: timeoutMs === null ? null : this.#clock.after(timeoutMs, expire),
      });
      send(request);
    });
  }

  /**
   * What came. `durableNumber`: what the hub has acknowledged as durable; digests rest on nothing newer. Throws a
   * ProtocolFault `hash-answer`.
   */
  answered({ tag, hashes, refused }: Hashes, durableNumber: number): void {
    this.#expired.delete(tag);
    this.#unanswered = 0;
    const asked = this.#asked.get(tag);
    // Out of time, or of a session before: nobody listens.
    if (asked === undefined) return;
    const { request } = asked;
    if (hashes === null) {
      this.#lastRefusal = refused === null ? null : `${refused.code}: ${refused.message}`;
      this.#settle(tag, null);
      return;
    }
    if (request.number > durableNumber) {
      throw new ProtocolFault(
        'hash-answer',
        `hub answers for number ${request.number}, durable at it is ${durableNumber}`,
      );
    }
    const region = new HashedRegion(request, hashes);
    this.#settle(tag, { region, key: request.key });
  }

  #settle(tag: number, answer: Answer | null): void {
    const asked = this.#asked.get(tag);
    if (asked === undefined) return;
    this.#asked.delete(tag);
    asked.timer?.cancel();
    asked.settle(answer);
  }
}
