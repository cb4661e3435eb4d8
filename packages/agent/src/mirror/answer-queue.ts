/**
 * Guests' requests that are done here and wait for the hub: each for a number, in the order of the numbers.
 *
 * Always holds: numbers rise from the oldest to the newest, so that what is due is always at the front.
 */
import { type BlockRequest, NbdError } from '@rephub/nbd';

/** Where a request is answered. */
export interface Answerer {
  answer(request: BlockRequest, error: number): void;
}

const COMPACT_AFTER = 1024;

export class AnswerQueue {
  #numbers: number[] = [];
  #requests: BlockRequest[] = [];
  #answerers: Answerer[] = [];
  #head = 0;

  get count(): number {
    return this.#numbers.length - this.#head;
  }

  push(number: number, request: BlockRequest, answerer: Answerer): void {
    this.#numbers.push(number);
    this.#requests.push(request);
    this.#answerers.push(answerer);
  }

  /** Answers all that wait for numbers up to this one. More may be pushed meanwhile. */
  answerThrough(number: number): void {
    while (this.#head < this.#numbers.length && (this.#numbers[this.#head] ?? 0) <= number) {
      const request = this.#requests[this.#head];
      const answerer = this.#answerers[this.#head];
      this.#head++;
      if (request !== undefined) answerer?.answer(request, NbdError.Ok);
    }
    if (this.#head < COMPACT_AFTER && this.#head < this.#numbers.length) return;
    this.#numbers = this.#numbers.slice(this.#head);
    this.#requests = this.#requests.slice(this.#head);
    this.#answerers = this.#answerers.slice(this.#head);
    this.#head = 0;
  }

  /** Answers all with this error. */
  failAll(error: number): void {
    const [requests, answerers] = [this.#requests.slice(this.#head), this.#answerers.slice(this.#head)];
    this.#numbers = [];
    this.#requests = [];
    this.#answerers = [];
    this.#head = 0;
    for (const [at, request] of requests.entries()) answerers[at]?.answer(request, error);
  }
}
