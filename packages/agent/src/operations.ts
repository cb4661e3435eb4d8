/** The pooled state of a guest's write and flush on their way through a volume. */
import { BlockRequest, Command, type Completion } from '@rephub/nbd';
import { type RangeHolder } from './range-lock.js';

export interface WriteSteps {
  locked(operation: WriteOperation): void;
  /** It has waited for room in the window, and has it. */
  admitted(operation: WriteOperation): void;
  upstreamAnswered(operation: WriteOperation): void;
  givenUp(operation: WriteOperation): void;
}

/** One guest write, zeroing or trim; its inner request is what upstream gets. */
export class WriteOperation implements RangeHolder, Completion {
  rangeStart = 0;
  rangeEnd = 0;
  holderIndex = -1;
  outer: BlockRequest | null = null;
  readonly inner: BlockRequest;
  /** The inner request is a fast zeroing that stands for a trim. */
  trimAsZero = false;
  /** What it holds of the window's room under `--on-congestion block`. */
  admittedBytes = 0;
  readonly #steps: WriteSteps;

  constructor(steps: WriteSteps) {
    this.#steps = steps;
    this.inner = new BlockRequest(this);
  }

  rangeLocked(): void {
    this.#steps.locked(this);
  }

  completed(): void {
    this.#steps.upstreamAnswered(this);
  }

  /** Payload that its record will carry. */
  get payloadBytes(): number {
    return this.outer?.command === Command.Write ? this.rangeEnd - this.rangeStart : 0;
  }

  /** There is room now: goes on where it was held. */
  proceed(): void {
    this.#steps.admitted(this);
  }

  /** It will not go upstream: the agent is stopping. */
  giveUp(): void {
    this.#steps.givenUp(this);
  }

  recycle(): void {
    this.outer = null;
    this.trimAsZero = false;
    // The slices now belong to the window: the array must not be emptied, only let go.
    this.inner.data = NO_SLICES;
    this.inner.flags = 0;
    this.inner.error = 0;
  }
}

const NO_SLICES: Buffer[] = [];

export interface FlushSteps {
  flushAnswered(operation: FlushOperation): void;
}

/** One guest flush; `covered` is the ticket that it will prove. */
export class FlushOperation implements Completion {
  outer: BlockRequest | null = null;
  /** The guest asked for it: it hears of writes that were lost. */
  tellsLoss = false;
  covered = 0;
  readonly inner: BlockRequest;
  readonly #steps: FlushSteps;

  constructor(steps: FlushSteps) {
    this.#steps = steps;
    this.inner = new BlockRequest(this);
  }

  completed(): void {
    this.#steps.flushAnswered(this);
  }

  recycle(): void {
    this.outer = null;
    this.inner.reset();
  }
}
