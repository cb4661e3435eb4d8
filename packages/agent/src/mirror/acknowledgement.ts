/**
 * When the guest is answered (promise ACK). async: when upstream has it. semi-sync: when the hub has received
 * it too. sync: when it is durable there. Flush, and writes with FUA, wait for durable in both.
 *
 * The mode is in force only while every write becomes a record of a consistent stream and the hub is there:
 *
 *   out       answers wait for nobody; it is stored that the mode is not in force
 *   entering  answers wait for the hub; in force once all that was answered before is durable there, and that is stored
 *   in        in force
 *   leaving   the hub is lost: it is being stored that the mode is no longer in force; until then answers wait
 *
 * Always holds: no write is answered without the hub while the disk says that the mode is in force.
 * Must not know: the link, the disk.
 */
import { type BlockRequest, NbdError } from '@rephub/nbd';
import { type Clock, type Logger } from '@rephub/platform';
import { type Answerer, AnswerQueue } from './answer-queue.js';

export type AckMode = 'async' | 'semi-sync' | 'sync';

export interface AcknowledgementParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly mode: AckMode;
  /** What an earlier process left in force. */
  readonly stored: AckMode;
  /** `freeze`: an absent hub is waited for. */
  readonly onDisconnect: 'continue' | 'freeze';
  /** Stores, durably, which mode is in force; `async` is none. */
  readonly store: (inForce: AckMode) => Promise<void>;
  /** The highest number given. */
  readonly lastNumber: () => number;
  /** Answers wait for the hub: what was numbered is to leave now. */
  readonly hurry: () => void;
}

const STORE_RETRY_MS = 1000;

export class Acknowledgement {
  readonly #parts: AcknowledgementParts;
  readonly #forReceived = new AnswerQueue();
  readonly #forDurable = new AnswerQueue();
  #mode: AckMode;
  #state: 'out' | 'entering' | 'in' | 'leaving' = 'out';
  /** The mode that the disk says is in force, or soon will. */
  #stored: AckMode;
  #enterAt = 0;
  #storing = false;
  #streaming = false;
  #linked = false;
  #received = 0;
  #durable = 0;
  /** All that was numbered when records were last sent in a hurry. */
  #hurriedThrough = 0;
  #isHurrying = false;
  #givenUp = false;

  constructor(parts: AcknowledgementParts) {
    this.#parts = parts;
    this.#mode = parts.mode;
    this.#stored = parts.stored;
    // An earlier process was in force when it ended: nothing may be answered before the disk says otherwise.
    if (parts.stored !== 'async') this.#leave('start');
  }

  get mode(): AckMode {
    return this.#mode;
  }

  get effectiveMode(): AckMode {
    return this.#state === 'in' ? this.#stored : 'async';
  }

  get waiting(): number {
    return this.#forReceived.count + this.#forDurable.count;
  }

  /** From now on answers follow this mode. */
  setMode(mode: AckMode): void {
    if (mode === this.#mode) return;
    this.#parts.log.info('mode', { from: this.#mode, to: mode });
    this.#mode = mode;
    if (this.#state !== 'out') this.#leave('mode changed');
    this.#maybeEnter();
  }

  /** A write that upstream has and that has this number, 0 when it is only marked. True: it is answered later. */
  holdWrite(number: number, isFua: boolean, request: BlockRequest, answerer: Answerer): boolean {
    if (this.#state === 'out') return false;
    if (this.#mode === 'semi-sync' && !isFua) {
      if (number > 0 && number <= this.#received) return false;
      this.#wait(this.#forReceived, number, request, answerer);
    } else {
      if (number > 0 && number <= this.#durable) return false;
      this.#wait(this.#forDurable, number, request, answerer);
    }
    return true;
  }

  #wait(queue: AnswerQueue, number: number, request: BlockRequest, answerer: Answerer): void {
    if (this.#givenUp) answerer.answer(request, NbdError.Eshutdown);
    else {
      queue.push(number, request, answerer);
      this.#hurry();
    }
  }

  /**
   * At the end of this turn, all that it brought at once. What comes while the hub is at work on that makes the next batch,
   * as in a journal's group commit; gathering sends it sooner where the hub is far.
   */
  #hurry(): void {
    if (this.#isHurrying || this.#hurriedThrough > (this.#mode === 'semi-sync' ? this.#received : this.#durable))
      return;
    this.#isHurrying = true;
    queueMicrotask(this.#sendBatch);
  }

  readonly #sendBatch = (): void => {
    this.#isHurrying = false;
    this.#hurriedThrough = this.#parts.lastNumber();
    this.#parts.hurry();
  };

  /** A flush that upstream has done. True: it is answered later, when all that was numbered before it is durable at the hub. */
  holdFlush(request: BlockRequest, answerer: Answerer): boolean {
    if (this.#state === 'out') return false;
    const number = this.#parts.lastNumber();
    if (this.#state !== 'leaving' && number <= this.#durable) return false;
    this.#wait(this.#forDurable, number, request, answerer);
    return true;
  }

  /** What the hub has acknowledged, on the line that numbers are given on now. */
  acknowledged(received: number, durable: number): void {
    this.#received = received;
    this.#durable = durable;
    if (this.#state === 'leaving' || this.#state === 'out') return;
    this.#forReceived.answerThrough(received);
    this.#forDurable.answerThrough(durable);
    if (this.waiting > 0) this.#hurry();
    if (this.#state === 'entering') this.#enterWhenDurable();
  }

  /** `streaming`: every write becomes a record, and the replica is consistent at each. `linked`: records flow to the hub. */
  stepChanged(streaming: boolean, linked: boolean): void {
    this.#streaming = streaming;
    this.#linked = linked;
    if (this.#givenUp) return;
    if (!streaming || (!linked && this.#parts.onDisconnect === 'continue')) {
      if (this.#state === 'in' || this.#state === 'entering') this.#leave(streaming ? 'hub away' : 'not in step');
    } else {
      this.#maybeEnter();
    }
  }

  /** The orderly end: the hub is waited for no longer, what still waits then is answered with ESHUTDOWN. */
  giveUp(): void {
    this.#givenUp = true;
    this.#forReceived.failAll(NbdError.Eshutdown);
    this.#forDurable.failAll(NbdError.Eshutdown);
  }

  #maybeEnter(): void {
    if (this.#state !== 'out' || this.#mode === 'async' || !this.#streaming || !this.#linked) return;
    this.#state = 'entering';
    this.#enterAt = this.#parts.lastNumber();
    this.#enterWhenDurable();
  }

  #enterWhenDurable(): void {
    if (this.#storing || this.#durable < this.#enterAt) return;
    const mode = this.#mode;
    this.#storing = true;
    this.#stored = mode;
    this.#parts.store(mode).then(
      () => {
        this.#storing = false;
        if (this.#state !== 'entering' || this.#mode !== mode) return;
        this.#state = 'in';
        this.#parts.log.info('mode-in-force', { mode });
      },
      (fault: unknown) => {
        this.#storing = false;
        this.#parts.log.error('mode-not-stored', { mode, fault: String(fault) });
        if (this.#state === 'entering') this.#leave('mode not stored');
      },
    );
  }

  #leave(why: string): void {
    const wasEntering = this.#state === 'entering';
    if (wasEntering && this.#stored === 'async') {
      this.#out();
      return;
    }
    this.#state = 'leaving';
    this.#parts.log.warn('mode-left', { mode: this.#stored, why });
    this.#storeLeft();
  }

  #storeLeft(): void {
    this.#parts.store('async').then(
      () => {
        if (this.#state !== 'leaving') return;
        this.#stored = 'async';
        this.#out();
        this.#maybeEnter();
      },
      (fault: unknown) => {
        this.#parts.log.error('answers-wait', {
          why: 'it cannot be stored that the hub is left',
          fault: String(fault),
        });
        if (!this.#givenUp) this.#parts.clock.after(STORE_RETRY_MS, () => this.#storeLeft());
      },
    );
  }

  #out(): void {
    this.#state = 'out';
    this.#forReceived.answerThrough(Infinity);
    this.#forDurable.answerThrough(Infinity);
  }
}
