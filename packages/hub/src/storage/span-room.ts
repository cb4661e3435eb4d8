/**
 * Whether a span may begin: its records stay in the journal until it has ended, so that the last good point stays open
 * (LASTGOOD), and they must fit beside the reserve. Decides, and remembers what was refused and what the operator allowed.
 *
 * Always holds: a first sync is never refused, there is no last good point to keep; what an operator allows is for one span.
 * Must not know: files, sessions.
 */
import { type Clock, type Logger, StorageFault } from '@rephub/platform';
import type { Room } from './room.js';

/** For frame headers, and the agent's smaller records. */
const OVERHEAD_SHARE = 1 / 128;
/** Refused as often as this, and history has made no room: points that are open go. */
const PATIENCE = 2;
/** An agent that has not come again for so long is away: what it wanted says nothing of now. */
const FORGET_MS = 60_000;

/** What a refused span lacks. */
export interface SpanShort {
  /** What it may take, at most. */
  readonly neededBytes: number;
  readonly shortBytes: number;
}

export class SpanRoom {
  readonly #room: Room;
  readonly #clock: Clock;
  readonly #log: Logger;
  #refusedAtMs = 0;
  #neededBytes: number | null = null;
  #refusals = 0;
  #mayDrop = false;
  #mustDrop = false;
  /** Spans whose end has come and is not durable, and whether the word is for one of them. */
  #ending = 0;
  #mayDropEnding = false;

  constructor(room: Room, clock: Clock, log: Logger) {
    this.#room = room;
    this.#clock = clock;
    this.#log = log;
  }

  /** What the refused span lacks by now; null when none was refused lately, or it would fit. */
  get short(): SpanShort | null {
    if (this.#neededBytes === null || this.#clock.monotonicMs() - this.#refusedAtMs > FORGET_MS) return null;
    const shortBytes = this.#room.shortFor(this.#neededBytes);
    return shortBytes === 0 ? null : { neededBytes: this.#neededBytes, shortBytes };
  }

  /** What gives way for it: nothing, history that nobody looks at, or open points too. */
  get wanted(): 'nothing' | 'history' | 'points' {
    if (this.short === null) return this.#room.isLow ? 'history' : 'nothing';
    return this.#refusals >= PATIENCE ? 'points' : 'history';
  }

  /** The oldest span that has not ended durably, or the next one, may give the last good point up if it has no room otherwise. */
  get mayDrop(): boolean {
    return this.isEnding ? this.#mayDropEnding : this.#mayDrop;
  }

  /** The end of a span has come and is not durable: it may wait for room as its other records do. */
  get isEnding(): boolean {
    return this.#ending > 0;
  }

  /** It was let in on that condition. */
  get mustDrop(): boolean {
    return this.#mustDrop;
  }

  /**
   * A span wants to begin, or to go on. `expectedBytes` null: the agent cannot tell. Throws the StorageFault
   * `span-too-big`, retryable, when its records may not fit.
   */
  admit(expectedBytes: number | null, hasLastGood: boolean): void {
    if (expectedBytes !== null && hasLastGood) {
      const neededBytes = Math.ceil(expectedBytes * (1 + OVERHEAD_SHARE));
      const shortBytes = this.#room.shortFor(neededBytes);
      this.#mustDrop = shortBytes > 0 && this.#mayDrop;
      if (shortBytes > 0 && !this.#mayDrop) {
        if (this.#neededBytes === null) this.#log.warn('span-refused', { neededBytes, shortBytes });
        this.#neededBytes = neededBytes;
        this.#refusals += 1;
        this.#refusedAtMs = this.#clock.monotonicMs();
        throw new StorageFault(
          'span-too-big',
          `a resync of up to ${neededBytes} bytes does not fit beside the last good point: ${shortBytes} bytes are short`,
          { retryable: true },
        );
      }
    }
    this.#forgetRefusal();
  }

  /** The operator's word: for the span that lacks room now, or for the next one. */
  allowDrop(whenShort: 'now' | 'later'): void {
    const isForEnding = this.isEnding && whenShort === 'now';
    if (isForEnding) this.#mayDropEnding = true;
    if (!isForEnding || this.short !== null) this.#mayDrop = true;
  }

  /** The end of the span has come: what was allowed is for no other one. */
  ended(): void {
    this.#ending += 1;
    this.#mayDropEnding ||= this.#mayDrop;
    this.#mayDrop = false;
    this.#mustDrop = false;
    this.#forgetRefusal();
  }

  /** The end of a span is durable: what was allowed is used up. */
  endIsDurable(): void {
    this.#ending -= 1;
    if (!this.isEnding) this.#mayDropEnding = false;
  }

  #forgetRefusal(): void {
    this.#neededBytes = null;
    this.#refusals = 0;
  }
}
