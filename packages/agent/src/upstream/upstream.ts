/**
 * The upstream disk of one volume, behind connections that may be lost and answers that may be errors. To
 * whoever submits, neither shows but by time, until the retry policy's limit (promises GUEST, OUTAGE).
 *
 * Always holds:
 *  - nothing passes on any connection while what one of them may have lost is not played (REPLAY);
 *  - a write is in the replay log from before it is sent until a flush has covered it;
 *  - a flush or FUA that was answered with an error is not repeated before everything unflushed was played (FLUSH);
 *  - overlapping writes are not in flight together: the volume's range lock sees to that, before they come here.
 *
 * Must not know: guests, the mirror.
 */
import {
  type Abilities,
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  type Limits,
  NbdError,
  readSlices,
} from '@rephub/nbd';
import { type Fault, releaseBytes } from '@rephub/platform';
import { FlushCoordinator, type FlushSteps } from './flush-coordinator.js';
import { KeepAlive } from './keep-alive.js';
import { type Lane } from './lane.js';
import { LanePool, openWatched, type WatchedConnection } from './lane-pool.js';
import { planPool } from './multi-conn.js';
import { crossesPlaces, CutRequest } from './placement.js';
import { ReadOnlyGuard } from './read-only-guard.js';
import { Recovery } from './recovery.js';
import { type Replay, replayFor } from './replay.js';
import { ReplayLog } from './replay-log.js';
import { connectTimeoutMs } from './retry-policy.js';
import { type KnownExport, knownExport, refuseChanged, refuseReadOnly } from './same-export.js';
import { Setbacks } from './setbacks.js';
import { SizeWatch } from './size-watch.js';
import { faceOf, type OpSteps, UpstreamOp } from './upstream-op.js';
import { type UpstreamParts } from './upstream-parts.js';
import { describeUpstream, type UpstreamStatus } from './upstream-status.js';
import { WaitingRoom } from './waiting-room.js';

const SECTOR_BYTES = 512;
/** Operations kept for another use, at most. */
const POOL_LIMIT = 512;

export class Upstream implements BlockDevice, OpSteps, FlushSteps {
  readonly abilities: Abilities;
  readonly limits: Limits;
  /** The same disk for readers that would rather have an error soon: what upstream answers is not repeated. */
  readonly once: BlockDevice;
  readonly #parts: UpstreamParts;
  #known: KnownExport;
  readonly #lanes: LanePool;
  readonly #log: ReplayLog;
  readonly #recovery: Recovery;
  readonly #room: WaitingRoom;
  readonly #setbacks: Setbacks;
  readonly #keepAlive: KeepAlive;
  readonly #free: UpstreamOp[] = [];
  readonly #flushes: FlushCoordinator;
  readonly #readOnly: ReadOnlyGuard;
  readonly #size: SizeWatch;
  #order = 0;
  #idle: (() => void) | null = null;
  #reconnects = 0;

  /** Opens the first connection; its failure is thrown. */
  static async open(parts: UpstreamParts, timeoutMs = connectTimeoutMs(Infinity)): Promise<Upstream> {
    const opened = await openWatched(parts.open, timeoutMs);
    await refuseReadOnly(opened.connection, parts.name);
    const upstream = new Upstream(parts, opened);
    try {
      while (upstream.#lanes.missing) await upstream.#lanes.openNext(timeoutMs);
    } catch (fault) {
      await upstream.close();
      throw fault;
    }
    return upstream;
  }

  private constructor(parts: UpstreamParts, opened: WatchedConnection) {
    this.#parts = parts;
    const { connection } = opened;
    const { clock, log, name, policy, options } = parts;
    this.#known = knownExport(connection);
    const plan = planPool(options.multiConn, options.connections, connection.abilities);
    this.limits = connection.limits;
    const { fua, flush } = connection.abilities;
    this.abilities = { ...connection.abilities, fua: fua || flush, multiConn: plan.advertised };
    this.once = faceOf(this, (request) => this.#enter(request, true));
    this.#log = new ReplayLog(flush ? options.replayBytes : 0, parts.memory);
    this.#lanes = new LanePool({
      open: parts.open,
      plan,
      log,
      name,
      check: (returned) => this.#checkReturned(returned),
      lost: (lane, fault) => this.#lost(lane, fault),
      closeFailed: (error) => this.#closeFailed(error),
      answers: () => this.#answers(),
    });
    this.#room = new WaitingRoom({
      clock,
      expired: (op) => this.#setbacks.fail(op, NbdError.Eio),
      due: (ops) => this.#setbacks.repeat(ops),
      mayExpire: () => !this.#recovery.isUp && this.#recovery.state.kind !== 'playing',
    });
    this.#recovery = new Recovery({
      name,
      clock,
      log,
      policy,
      pool: this.#lanes,
      isSettled: () => this.#lanes.inFlight === 0,
      makeReplay: (attempt) =>
        replayFor(parts, {
          ...{ ...attempt, pool: this.#lanes, log: this.#log, room: this.#room },
          syncFailed: (error) => this.#syncFailed(error),
          // A write of unknown fate was played.
          answered: (op, error) => this.#answeredSlowly(op, error),
        }),
      left: () => parts.hooks.doubtChanged(),
      stillAway: () => this.#room.expire(),
      recovered: (replay) => this.#recovered(replay),
    });
    this.#readOnly = new ReadOnlyGuard(options.retryReadonly, log, name);
    this.#flushes = new FlushCoordinator({
      clock,
      lanes: this.#lanes,
      log: this.#log,
      trackDirty: options.trackDirty,
      steps: this,
      told: log,
      volume: name,
      wantsFlush: () => parts.hooks.wantsFlush(),
      maybeDropped: () => parts.hooks.doubtChanged(),
    });
    this.#setbacks = new Setbacks({
      clock,
      policy,
      hooks: parts.hooks,
      log: this.#log,
      lanes: this.#lanes,
      room: this.#room,
      flushes: this.#flushes,
      recovery: this.#recovery,
      readOnly: this.#readOnly,
      told: log,
      volume: name,
      canFlush: flush,
      begin: (op) => this.begin(op),
      finish: (op, error) => this.#finish(op, error),
    });
    this.#keepAlive = new KeepAlive({
      clock,
      idleMs: flush ? options.idleFlushMs : Infinity,
      lanes: this.#lanes.lanes,
      isQuiet: () => this.#recovery.isUp,
      flushesItself: () => {
        if (this.#log.isEmpty) return false;
        this.#flushes.ask();
        return true;
      },
      ended: (error, isLost) => {
        if (error === 0 && !isLost) return;
        this.#syncFailed(isLost ? null : error);
        this.#setbacks.maybeShutDown(error);
        this.#recovery.noteSettled();
      },
    });
    this.#size = new SizeWatch(parts, this.#lanes, this.#recovery, () => this.#known.sizeBytes);
    this.#lanes.adopt(opened);
    this.#keepAlive.start();
    this.#size.start();
  }

  get sizeBytes(): number {
    return this.#known.sizeBytes;
  }

  /** From now on upstream has so many bytes, and what comes back with less is refused. */
  admit(sizeBytes: number): void {
    this.#known = { ...this.#known, sizeBytes };
    if (this.#recovery.isUp && this.#lanes.smallestBytes < sizeBytes) this.#recovery.reopen('it has shrunk again');
  }

  get status(): UpstreamStatus {
    const { lanes } = this.#lanes;
    return describeUpstream(
      this.#recovery.state,
      this.#readOnly.reason,
      this.#size.shrunkReason,
      this.#reconnects,
      lanes.length,
      this.#log.bytes,
    );
  }

  /** Requests of guests that were answered with an error, for good. */
  get failedRequests(): number {
    return this.#setbacks.failedRequests;
  }

  /** A flush has failed, or may have, and what it may have dropped is not played yet. */
  get mayHaveDropped(): boolean {
    return this.#flushes.mayHaveDropped;
  }

  /** Acknowledged writes may be gone, and are not played yet. Not so where nothing was unflushed (a keep-alive that failed). */
  get mayHaveLost(): boolean {
    return this.#log.hasUnstable && (this.mayHaveDropped || !this.#recovery.isUp);
  }

  /** A process before this one may have left writes unflushed; they are not at hand. */
  unflushedBefore(): void {
    this.#log.missed();
  }

  submit(request: BlockRequest): void {
    this.#enter(request, false);
  }

  #enter(request: BlockRequest, once: boolean): void {
    if (this.#lanes.plan.placed && crossesPlaces(request)) {
      new CutRequest(request, (part) => this.#enter(part, once)).start();
      return;
    }
    const op = this.#free.pop() ?? new UpstreamOp(this);
    op.outer = request;
    op.once = once;
    op.order = this.#order++;
    op.startedMs = request.startedMs;
    if (op.startedMs > 0) this.#parts.latency.began(op.startedMs);
    this.begin(op);
  }

  /** Sends it, or has it wait. */
  begin(op: UpstreamOp): void {
    if (!this.#recovery.isUp) this.#setbacks.wait(op);
    else if (op.flushing || op.command === Command.Flush) this.#flush(op);
    else if (op.isWrite) this.#write(op);
    else {
      op.fill(op.outer?.flags ?? 0);
      this.#send(op, this.#lanes.choose(op.inner.offset));
    }
  }

  #send(op: UpstreamOp, lane: Lane): void {
    op.lane = lane;
    lane.submit(op.inner);
  }

  #write(op: UpstreamOp): void {
    const { outer } = op;
    if (outer === null) return;
    const refused = this.#readOnly.writeError;
    if (refused !== 0) {
      this.#setbacks.fail(op, refused);
      return;
    }
    if (this.#flushes.holdsBack(op)) return;
    op.fuaByFlush ||= op.wantsFua && !this.#known.abilities.fua;
    const flags = op.fuaByFlush ? outer.flags & ~CommandFlag.Fua : outer.flags;
    op.fill(flags);
    if (op.entry !== 0) this.#log.withdraw(op.entry);
    // Played, a zeroing must be done even where it is slow.
    op.entry = this.#log.add(outer.command, flags & ~CommandFlag.FastZero, outer.offset, outer.length, outer.data);
    this.#send(op, this.#lanes.choose(outer.offset));
  }

  // Answers ---------------------------------------------------------------------------------------

  opAnswered(op: UpstreamOp): void {
    const { lane, inner } = op;
    if (lane !== null) lane.inFlight--;
    if (inner.error !== 0 || !this.#recovery.isUp) {
      this.#answeredSlowly(op, inner.error);
      this.#recovery.noteSettled();
      return;
    }
    if (op.flushing || inner.command === Command.Flush) this.flushLanded(op);
    else if (op.isWrite) this.#written(op);
    else this.#finishRead(op, inner);
  }

  #finishRead(op: UpstreamOp, inner: BlockRequest): void {
    const { outer } = op;
    if (outer !== null) {
      outer.data = inner.data;
      if (outer.command === Command.BlockStatus) outer.extents = inner.extents;
    }
    this.#finish(op, NbdError.Ok);
  }

  #written(op: UpstreamOp): void {
    const log = this.#log;
    log.acknowledged(op.entry);
    op.lane?.written(log.stamp);
    this.#flushes.noteWritten();
    // After a flush that failed an answer alone does not prove that it is stable: that flush may have taken its error away.
    op.flushing = op.fuaByFlush || (op.wantsFua && this.#flushes.mustPlay);
    if (op.flushing) this.begin(op);
    else this.#finish(op, NbdError.Ok);
  }

  /** An error, or an answer that came while a connection is lost. */
  #answeredSlowly(op: UpstreamOp, error: number): void {
    if (error !== 0) this.#setbacks.answered(op, error);
    else if (op.isWrite && !op.flushing) {
      this.#written(op);
      this.#parts.hooks.doubtChanged();
    }
    // Read or flushed where acknowledged writes may be missing: done again when they are back.
    else this.#setbacks.wait(op);
  }

  #finish(op: UpstreamOp, error: number): void {
    const { outer, startedMs } = op;
    if (startedMs > 0 && outer !== null) {
      const { clock, latency } = this.#parts;
      latency.ended(outer, startedMs, clock.monotonicMs(), error === 0 && !op.hasWaited);
    }
    op.recycle();
    if (this.#free.length < POOL_LIMIT) this.#free.push(op);
    outer?.complete(error);
    if (this.#idle !== null && this.#lanes.inFlight === 0) this.#idle();
  }

  // Flush (promise FLUSH) ---------------------------------------------------------------------------

  #flush(op: UpstreamOp): void {
    if (this.#lanes.lanes.length === 0) {
      this.#setbacks.fail(op, NbdError.Eshutdown);
      return;
    }
    if (!this.#flushes.mustPlay) {
      this.#flushes.start(op);
      return;
    }
    this.#recovery.reopen('a flush had failed');
    this.#setbacks.wait(op);
    this.#recovery.noteSettled();
  }

  flushLanded(op: UpstreamOp): void {
    // Another one failed while it was under way, and may have dropped what both were to store.
    if (this.#flushes.mustPlay) {
      this.#flush(op);
      return;
    }
    this.#flushes.landed(op);
    this.#finish(op, NbdError.Ok);
    this.#flushes.unblock();
  }

  flushPartFailed(op: UpstreamOp, error: number): void {
    this.#setbacks.flushPartFailed(op, error);
  }

  flushEnded(op: UpstreamOp, error: number, lost: boolean): void {
    if (error !== 0) this.#setbacks.answered(op, error);
    else if (lost) this.opTaken(op);
    else if (this.#recovery.isUp) this.flushLanded(op);
    else this.#setbacks.wait(op);
    this.#recovery.noteSettled();
  }

  // Loss and return ---------------------------------------------------------------------------------

  #lost(lane: Lane, fault: Fault): void {
    const isQuiet = this.#log.isEmpty && lane.inFlight === 0;
    this.#setbacks.noteMayHaveLost();
    this.#recovery.lost(fault, isQuiet);
    // They wait with the others now, and no longer than these.
    this.#flushes.unblock();
    this.#readOnly.lost();
    // Where this was the last thing in flight there is nobody else to say so.
    queueMicrotask(() => this.#recovery.noteSettled());
  }

  /** `error` null: it went with its connection. */
  #syncFailed(error: number | null): void {
    if (error === null) this.#flushes.noteMayHaveDropped();
    else this.#flushes.failed(error);
    this.#setbacks.noteMayHaveLost();
  }

  /** As a flush that fails it tells of writes that were answered; after the last flush there are none. */
  #closeFailed(error: Error): void {
    this.#parts.log.warn('upstream-close-failed', { volume: this.#parts.name, reason: error.message });
    if (this.#recovery.state.kind === 'closed') return;
    this.#syncFailed(null);
  }

  opTaken(op: UpstreamOp): void {
    this.#setbacks.taken(op);
  }

  async #answers(): Promise<void> {
    // An error is an answer too.
    const read = readSlices(this.once, 0, Math.max(SECTOR_BYTES, this.limits.minimumBytes));
    await read.then(releaseBytes, () => undefined);
  }

  #checkReturned(returned: BlockDevice): void {
    this.#size.saw(returned.sizeBytes);
    refuseChanged(this.#parts.name, this.#known, returned, this.#readOnly.allowsReadOnly);
    if (returned.abilities.readOnly) this.#readOnly.enter('upstream came back read-only');
  }

  #recovered(replay: Replay): void {
    const { log, name, hooks } = this.#parts;
    this.#reconnects++;
    const again = this.#room.takeWaiting();
    log.info('upstream-back', { volume: name, requests: again.length, played: replay.played });
    replay.tell(hooks, this.#flushes.mayHaveDropped);
    this.#flushes.played();
    hooks.doubtChanged();
    for (const op of again) this.begin(op);
    if (replay.durableAgainWanted) this.#flushes.ask();
    this.#flushes.unblock();
    this.#size.reopened();
  }

  // The end ---------------------------------------------------------------------------------------

  /** Waits for upstream no longer: what waits, and what comes while it is away, fails with ESHUTDOWN. */
  giveUp(): void {
    this.#keepAlive.stop();
    this.#size.stop();
    this.#recovery.close();
    for (const op of [...this.#room.takeAll(), ...this.#flushes.takeBlocked()])
      this.#setbacks.fail(op, NbdError.Eshutdown);
  }

  /** Lets the connections go; what is in flight is completed first. */
  async close(): Promise<void> {
    if (!this.#recovery.isUp) this.giveUp();
    if (this.#lanes.inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    this.giveUp();
    await this.#lanes.close();
  }
}
