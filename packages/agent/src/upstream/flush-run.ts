/** One flush over several connections: sent to all at once, done when all have answered; that one fails is told at once. */
import { BlockRequest, Command } from '@rephub/nbd';
import { type Lane, type LaneUser } from './lane.js';

/** `error` is the first that a connection answered; `lost`: a connection was lost instead of answering. */
export type FlushRunDone = (error: number, lost: boolean) => void;

export class FlushRun {
  readonly #done: FlushRunDone;
  readonly #failed: (error: number) => void;
  #isSent = false;
  #pending = 0;
  #error = 0;
  #lost = false;

  /** `failed`: a connection has answered with an error; what others answer to another flush is not to be believed from then on. */
  constructor(done: FlushRunDone, failed: (error: number) => void) {
    this.#done = done;
    this.#failed = failed;
  }

  start(lanes: readonly Lane[]): void {
    // One more than there are: `done` must not come before all are sent.
    this.#pending = lanes.length + 1;
    for (const lane of lanes) lane.submit(new FlushPart(this, lane).request);
    this.#isSent = true;
    // Not before: who hears of it lets the connections go.
    if (this.#error !== 0) this.#failed(this.#error);
    this.ended(0, false);
  }

  ended(error: number, lost: boolean): void {
    if (error !== 0 && this.#isSent) this.#failed(error);
    if (this.#error === 0) this.#error = error;
    this.#lost ||= lost;
    if (--this.#pending === 0) this.#done(this.#error, this.#lost);
  }
}

class FlushPart implements LaneUser {
  readonly request: BlockRequest;
  readonly #run: FlushRun;
  readonly #lane: Lane;

  constructor(run: FlushRun, lane: Lane) {
    this.#run = run;
    this.#lane = lane;
    this.request = new BlockRequest(this);
    this.request.command = Command.Flush;
  }

  completed(): void {
    this.#lane.inFlight--;
    this.#run.ended(this.request.error, false);
  }

  taken(): void {
    this.#run.ended(0, true);
  }
}
