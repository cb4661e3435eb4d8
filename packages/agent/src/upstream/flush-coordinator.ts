/**
 * Flushes: which connections one goes to, what it covered, and when upstream's side wants one by itself because the
 * replay log fills up, or because one costs next to nothing (promise FLUSH). Writes that find no room in the log wait here.
 *
 * Always holds: a flush covers the writes that were answered before it was sent, on whichever connection; it is
 * done only when every connection that may hold such a write in a cache of its own has answered.
 */
import { Command } from '@rephub/nbd';
import { type Clock, type Logger } from '@rephub/platform';
import { FlushRun } from './flush-run.js';
import { type Lane } from './lane.js';
import { type LanePool } from './lane-pool.js';
import { lanesToFlush, type TrackDirty } from './multi-conn.js';
import { type ReplayLog } from './replay-log.js';
import { type UpstreamOp } from './upstream-op.js';

export interface FlushSteps {
  /** All that it had to reach has answered well, or there was nothing to flush. */
  flushLanded(op: UpstreamOp): void;
  /** `lost`: a connection went instead of answering. */
  flushEnded(op: UpstreamOp, error: number, lost: boolean): void;
  /** One connection of several has answered with an error; the others have not answered yet. */
  flushPartFailed(op: UpstreamOp, error: number): void;
  /** A write that was held back goes on. */
  begin(op: UpstreamOp): void;
}

/**
 * From so much unflushed on a flush is sent where flushes are quick: what is kept stays in the processor's caches, and less
 * is played again after a loss.
 */
const EARLY_FLUSH_BYTES = 4 * 1024 * 1024;
/** Such flushes take a thirtieth of the time at most. */
const EARLY_FLUSH_PAUSES = 30;

export interface FlushCoordinatorParts {
  readonly clock: Clock;
  readonly lanes: LanePool;
  readonly log: ReplayLog;
  readonly trackDirty: TrackDirty;
  readonly steps: FlushSteps;
  readonly told: Logger;
  readonly volume: string;
  /** Asks whoever counts what a flush covers to submit one. */
  readonly wantsFlush: () => void;
  /** `mayHaveDropped` is true from now on. */
  readonly maybeDropped: () => void;
}

export class FlushCoordinator {
  /** A flush was answered with an error: the next one is no good before everything unflushed was written again. */
  mustPlay = false;
  readonly #parts: FlushCoordinatorParts;
  #mayHaveDropped = false;
  #asked = false;
  /** An early flush is due from then on; not before one has shown what it takes. */
  #earlyFromMs = Infinity;
  /** Writes for which the replay log has no room until a flush has made some. */
  #blocked: UpstreamOp[] = [];

  constructor(parts: FlushCoordinatorParts) {
    this.#parts = parts;
  }

  /** Sends the operation's flush to whom it concerns. There is at least one lane. */
  start(op: UpstreamOp): void {
    const { lanes, log, trackDirty, steps } = this.#parts;
    op.lane = null;
    op.flushSentMs = NaN;
    op.coveredStamp = log.stamp;
    op.coveredEnd = log.nextEntry;
    const only = lanes.lanes.length === 1 ? lanes.lanes[0] : undefined;
    if (only !== undefined) {
      if (trackDirty === 'off' || only.isDirty) this.send(op, only);
      else steps.flushLanded(op);
      return;
    }
    const targets = [...lanesToFlush(lanes.lanes, lanes.plan.placed, trackDirty)];
    const [first] = targets;
    if (first === undefined) steps.flushLanded(op);
    else if (targets.length === 1) this.send(op, first);
    else this.#sendAll(op, targets);
  }

  /** Flushes one lane for this operation. */
  send(op: UpstreamOp, lane: Lane): void {
    op.fillFlush();
    op.lane = lane;
    op.flushSentMs = this.#parts.clock.monotonicMs();
    lane.submit(op.inner);
  }

  #sendAll(op: UpstreamOp, targets: readonly Lane[]): void {
    op.flushSentMs = this.#parts.clock.monotonicMs();
    new FlushRun(
      (error, lost) => {
        if (error === 0 && !lost) for (const lane of targets) lane.flushed(op.coveredStamp);
        this.#parts.steps.flushEnded(op, error, lost);
      },
      (error) => {
        this.#doubt();
        this.#parts.steps.flushPartFailed(op, error);
      },
    ).start(targets);
  }

  /** Upstream answered a flush or FUA with an error: it may have dropped what it should have written. */
  failed(error: number): void {
    const { log, told, volume } = this.#parts;
    told.warn('upstream-sync-failed', { volume, error, unflushedBytes: log.bytes });
    this.#doubt();
  }

  /** With nothing to play too: another one that is under way must not be believed. */
  #doubt(): void {
    this.mustPlay = true;
    this.noteMayHaveDropped();
  }

  /**
   * A flush has failed, or may have, and what was unflushed then has not been played since: it may be dropped, with readers
   * seeing it still (Linux calls such pages clean), so that no later flush makes it stable.
   */
  get mayHaveDropped(): boolean {
    return this.#mayHaveDropped;
  }

  noteMayHaveDropped(): void {
    this.#mayHaveDropped = true;
    this.#parts.maybeDropped();
  }

  /** What may have been dropped is written again, or told to be in doubt. */
  played(): void {
    this.mustPlay = false;
    this.#mayHaveDropped = false;
  }

  /** Counts what the operation's flush has covered. */
  landed(op: UpstreamOp): void {
    const { clock, lanes, log } = this.#parts;
    const nowMs = clock.monotonicMs();
    const tookMs = nowMs - op.flushSentMs;
    if (!Number.isNaN(tookMs)) this.#earlyFromMs = nowMs + tookMs * EARLY_FLUSH_PAUSES;
    if (op.lane !== null) {
      if (lanes.plan.placed) op.lane.flushed(op.coveredStamp);
      else for (const lane of lanes.lanes) lane.flushed(op.coveredStamp);
    }
    log.flushed(op.coveredStamp, op.coveredEnd);
    this.#asked = false;
  }

  // Room in the log -------------------------------------------------------------------------------

  /** True: there is no room for this write yet; it will be begun again when there is. */
  holdsBack(op: UpstreamOp): boolean {
    const payloadBytes = op.command === Command.Write ? (op.outer?.length ?? 0) : 0;
    if (this.#blocked.length === 0 && this.#parts.log.hasRoomFor(payloadBytes)) return false;
    this.#blocked.push(op);
    // Otherwise the next answer to a write asks.
    if (this.#parts.log.hasFlushable) this.ask();
    return true;
  }

  get blockedCount(): number {
    return this.#blocked.length;
  }

  takeBlocked(): UpstreamOp[] {
    const blocked = this.#blocked;
    this.#blocked = [];
    return blocked;
  }

  unblock(): void {
    if (this.#blocked.length === 0) return;
    for (const op of this.takeBlocked()) this.#parts.steps.begin(op);
  }

  /** A write was answered: is it time to flush? */
  noteWritten(): void {
    const { clock, log } = this.#parts;
    const isEarly = log.bytes >= EARLY_FLUSH_BYTES && clock.monotonicMs() >= this.#earlyFromMs;
    if (isEarly || this.#blocked.length > 0 || log.wantsFlush) this.ask();
  }

  /** The log is as full as it may be, or soon will be. */
  ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#parts.wantsFlush();
  }

  /** No flush is on its way any more; the next one may be asked for. */
  forgetAsked(): void {
    this.#asked = false;
  }
}
