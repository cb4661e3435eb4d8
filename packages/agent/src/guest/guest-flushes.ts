/**
 * The flushes of one volume: the guest's, and those that upstream's side or a read with FUA asks for (promise FLUSH).
 *
 * Always holds:
 *  - a flush that upstream has completed proves the writes that were completed when it was submitted, no others (CLEAR);
 *  - what is owed to the guest fails the next flush of its own, and those after it until a client that was there is told.
 * Must not know: writes, how upstream keeps a flush's word.
 */
import { type Tracker } from '@rephub/bitmap';
import { type BlockDevice, BlockRequest, Command, CommandFlag, NbdError } from '@rephub/nbd';
import { type Acknowledgement } from '../mirror/acknowledgement.js';
import { type Answerer } from '../mirror/answer-queue.js';
import { type FlushDebt } from '../flushes/flush-debt.js';
import { type FlushProof } from '../flushes/flush-proof.js';
import { type Mirror } from '../mirror/mirror.js';
import { FlushOperation, type FlushSteps } from '../operations.js';

/** Operations kept for another use, at most. */
const POOL_LIMIT = 64;

export interface GuestFlushParts {
  /** The volume's number in marks and records. */
  readonly index: number;
  readonly upstream: BlockDevice;
  readonly debt: FlushDebt;
  readonly proof: FlushProof;
  readonly tracker: Pick<Tracker, 'upstreamFlushed'>;
  readonly mirror: Pick<Mirror, 'flushMarker' | 'fail'>;
  readonly acknowledgement: Acknowledgement | null;
  /** Answers the guest, which ends what `began`. */
  readonly answerer: Answerer;
  readonly began: () => void;
  /** One that nobody waits for is over. */
  readonly ended: () => void;
}

export class GuestFlushes implements FlushSteps {
  readonly #parts: GuestFlushParts;
  readonly #pool: FlushOperation[] = [];

  constructor(parts: GuestFlushParts) {
    this.#parts = parts;
  }

  /** The guest asks for it. */
  submit(request: BlockRequest): void {
    if (!this.#parts.debt.isDue) {
      this.#send(request, true);
      return;
    }
    this.#tell(request);
    request.complete(NbdError.Eio);
  }

  /** Upstream's side asks for it (null), or something else than the guest's flush: what the guest is owed is not told here. */
  send(request: BlockRequest | null): void {
    this.#send(request, false);
  }

  /** FUA on a read is PREFLUSH: what was written before lands first. What was lost the next flush is to tell, not a read. */
  beforeRead(request: BlockRequest): void {
    const flush = new BlockRequest({
      completed: ({ error }) => {
        if (error !== 0) request.complete(error);
        else {
          request.flags &= ~CommandFlag.Fua;
          this.#parts.upstream.submit(request);
        }
      },
    });
    flush.command = Command.Flush;
    // It takes a flush and a read, as no other does.
    request.startedMs = 0;
    this.send(flush);
  }

  #send(request: BlockRequest | null, tellsLoss: boolean): void {
    const { began, index, proof, upstream } = this.#parts;
    began();
    const operation = this.#pool.pop() ?? new FlushOperation(this);
    operation.outer = request;
    operation.tellsLoss = tellsLoss;
    operation.covered = proof.coveredBy(index);
    operation.inner.command = Command.Flush;
    // Only what a guest waits for is measured.
    operation.inner.startedMs = tellsLoss && request !== null ? request.startedMs : 0;
    upstream.submit(operation.inner);
  }

  flushAnswered(operation: FlushOperation): void {
    const { acknowledgement, answerer, debt, ended, index, mirror, proof, tracker } = this.#parts;
    const { outer, tellsLoss, covered } = operation;
    // A write that this flush was to cover may have been lost while it waited for upstream.
    const error = tellsLoss && debt.isDue ? NbdError.Eio : operation.inner.error;
    operation.recycle();
    if (this.#pool.length < POOL_LIMIT) this.#pool.push(operation);
    if (tellsLoss && outer !== null) this.#tell(outer);
    if (error === 0) {
      try {
        proof.flushed(index, covered);
        tracker.upstreamFlushed(index, covered);
        if (outer !== null) mirror.flushMarker();
      } catch (fault) {
        // A bug: upstream has flushed all the same (promise FAIL-OPEN).
        mirror.fail(fault);
      }
    }
    if (outer === null) ended();
    else if (error !== 0 || acknowledgement?.holdFlush(outer, answerer) !== true) answerer.answer(outer, error);
  }

  /** This request's answer tells what is owed, unless nobody is there any more who could hear it. */
  #tell(request: BlockRequest): void {
    if (request.owner.isGone !== true) this.#parts.debt.settle();
  }
}
