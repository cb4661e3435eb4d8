/**
 * What becomes of an operation that upstream answers with an error, takes along when a connection goes, or cannot take at
 * all: it waits, it is repeated, or it fails for good (promises GUEST, OUTAGE, FLUSH).
 *
 * Always holds:
 *  - an operation fails for good only when its retries or its time are used up, when its submitter would rather have the
 *    error, or when repeating it could answer a flush whose content is lost;
 *  - whoever answers for unflushed writes is told as soon as some may be lost that the replay log does not have.
 * Must not know: how an operation is sent, what connections are.
 */
import { Command, CommandFlag, NbdError } from '@rephub/nbd';
import { type Clock, type Logger } from '@rephub/platform';
import { type FlushCoordinator } from './flush-coordinator.js';
import { type LanePool } from './lane-pool.js';
import { type ReadOnlyGuard } from './read-only-guard.js';
import { type Recovery } from './recovery.js';
import { type ReplayLog } from './replay-log.js';
import { delayBefore, isRetried, patienceMs, type RetryPolicy } from './retry-policy.js';
import { type UpstreamOp } from './upstream-op.js';
import { type UpstreamHooks } from './upstream-parts.js';
import { type WaitingRoom } from './waiting-room.js';

export interface SetbackParts {
  readonly clock: Clock;
  readonly policy: RetryPolicy;
  readonly hooks: Pick<UpstreamHooks, 'unflushedLost'>;
  readonly log: Pick<ReplayLog, 'complete' | 'stamp' | 'failed' | 'abandon'>;
  readonly lanes: Pick<LanePool, 'written'>;
  readonly room: Pick<WaitingRoom, 'wait' | 'delay'>;
  readonly flushes: Pick<
    FlushCoordinator,
    'failed' | 'mayHaveDropped' | 'noteMayHaveDropped' | 'forgetAsked' | 'blockedCount' | 'unblock'
  >;
  readonly recovery: Pick<Recovery, 'state' | 'isUp' | 'generation' | 'reopen' | 'noteSettled'>;
  readonly readOnly: Pick<ReadOnlyGuard, 'failed'>;
  readonly told: Logger;
  readonly volume: string;
  /** Upstream can flush. */
  readonly canFlush: boolean;
  /** Sends it again, or has it wait. */
  readonly begin: (op: UpstreamOp) => void;
  /** Its submitter gets the answer, and it is over. */
  readonly finish: (op: UpstreamOp, error: number) => void;
}

/** One line in so long says enough. */
const TELL_MS = 10_000;

export class Setbacks {
  /** Requests that were answered with upstream's error, or given up. */
  failedRequests = 0;
  readonly #parts: SetbackParts;
  #toldMs = -Infinity;

  constructor(parts: SetbackParts) {
    this.#parts = parts;
  }

  /** Upstream has answered with an error. */
  answered(op: UpstreamOp, error: number): void {
    const { canFlush, clock, flushes, policy, readOnly, recovery, room } = this.#parts;
    if (isSync(op) && !isTooSlow(op, error)) {
      flushes.failed(error);
      op.syncFailed = true;
      // Played again it is followed by a flush, as all that is played is.
      op.fuaByFlush ||= op.isWrite && canFlush;
    }
    // Said of the server, not of what was asked: who asked once must not take it for a range that cannot be read.
    if (op.once) this.maybeShutDown(error);
    if (!this.#isRepeated(op, error)) {
      if (op.syncFailed) this.noteMayHaveLost();
      this.fail(op, error);
      return;
    }
    op.failures++;
    readOnly.failed(op.isWrite || op.command === Command.Flush);
    // What fails while it is played fails on the connections of the generation that is about to be.
    op.generation = recovery.generation + (recovery.state.kind === 'playing' ? 1 : 0);
    op.dueMs = clock.monotonicMs() + delayBefore(policy, op.failures);
    room.delay(op);
    // What was dropped must not be read as it was before: it is written again now, the flush itself later.
    if (op.syncFailed) recovery.reopen('a flush failed');
  }

  /**
   * One of the connections that a flush goes to has failed it. What that one dropped must not be read as it was before, while
   * the others take their time.
   */
  flushPartFailed(op: UpstreamOp, error: number): void {
    op.syncFailed = true;
    if (this.#isRepeated(op, error)) this.#parts.recovery.reopen('a flush failed');
  }

  #isRepeated(op: UpstreamOp, error: number): boolean {
    const { log, policy, recovery } = this.#parts;
    const canRepeat = !(op.syncFailed && !log.complete) && isRetried(error) && !op.once;
    return canRepeat && op.failures < policy.retries && recovery.state.kind !== 'closed';
  }

  /** It was in flight on a connection that is gone. */
  taken(op: UpstreamOp): void {
    const { flushes, policy, readOnly } = this.#parts;
    op.lane = null;
    op.failures++;
    if (isSync(op)) {
      flushes.noteMayHaveDropped();
      this.noteMayHaveLost();
    }
    if (op.failures > policy.retries) {
      this.fail(op, NbdError.Eio);
      return;
    }
    readOnly.failed(op.isWrite || op.command === Command.Flush);
    this.wait(op);
  }

  /** Nothing passes at the moment. */
  wait(op: UpstreamOp): void {
    const { clock, policy, recovery, room } = this.#parts;
    if (recovery.state.kind === 'closed') {
      this.fail(op, NbdError.Eshutdown);
      return;
    }
    op.lane = null;
    op.deadlineMs = clock.monotonicMs() + patienceMs(policy, Math.max(1, op.failures));
    room.wait(op);
  }

  /** The delays of these are over. */
  repeat(ops: readonly UpstreamOp[]): void {
    const { begin, recovery } = this.#parts;
    const stale = ops.some((op) => recovery.isUp && op.generation === recovery.generation);
    if (stale) {
      this.noteMayHaveLost();
      recovery.reopen('an operation failed');
    }
    for (const op of ops) begin(op);
    recovery.noteSettled();
  }

  /** For good: its submitter gets the error. */
  fail(op: UpstreamOp, error: number): void {
    const { finish, lanes, log } = this.#parts;
    if (op.isWrite) {
      log.failed(op.entry);
      lanes.written(log.stamp);
    }
    if (op.flushing || op.command === Command.Flush) this.#flushFailed();
    if (op.outer?.command === Command.Read && op.outer.data.length > 0) op.outer.data = [];
    this.#tell(op, error);
    finish(op, error);
  }

  /** A guest sees an error: that must not pass unsaid, nor flood the log. */
  #tell(op: UpstreamOp, error: number): void {
    const { clock, told, volume } = this.#parts;
    if (op.once || error === NbdError.Enotsup || error === NbdError.Eshutdown || op.outer === null) return;
    this.failedRequests++;
    const now = clock.monotonicMs();
    if (now - this.#toldMs < TELL_MS) return;
    this.#toldMs = now;
    const { command, offset, length } = op.outer;
    told.warn('request-failed', { volume, command, offset, length, error, failedRequests: this.failedRequests });
  }

  /** A server that is shutting down waits for its clients to go, and comes back for those who connect anew. */
  maybeShutDown(error: number): void {
    if (error === NbdError.Eshutdown) this.#parts.recovery.reopen('it is shutting down');
  }

  noteMayHaveLost(): void {
    const { flushes, hooks, log } = this.#parts;
    if (!log.complete) hooks.unflushedLost(flushes.mayHaveDropped);
  }

  /** Nobody must wait for room that no flush will make: what upstream would lose now cannot be played any more. */
  #flushFailed(): void {
    const { flushes, hooks, log } = this.#parts;
    flushes.forgetAsked();
    if (flushes.blockedCount === 0) return;
    log.abandon();
    hooks.unflushedLost(flushes.mayHaveDropped);
    flushes.unblock();
  }
}

/** A zeroing that was to be fast, and was not begun because it would not be: nothing of it failed to become stable. */
function isTooSlow({ flushing, outer }: UpstreamOp, error: number): boolean {
  const isFast = !flushing && outer?.command === Command.WriteZeroes && (outer.flags & CommandFlag.FastZero) !== 0;
  return isFast && error === NbdError.Enotsup;
}

/** It makes something stable, or fails to. */
function isSync(op: UpstreamOp): boolean {
  return op.flushing || op.command === Command.Flush || (op.isWrite && op.wantsFua);
}
