/**
 * One volume as the guest sees it: reads pass straight through to upstream; a write takes the range
 * lock, is marked, goes upstream, is numbered, is answered (docs/design.md, "The agent").
 *
 * Always holds, for every write, zeroing and trim:
 *  - its extents are marked, durably, before upstream sees it (promise SUPERSET);
 *  - it has its record, or its range is dirty, before the guest is answered and the lock released (ORD);
 *  - a failed one leaves its range dirty (FAILWR).
 *
 * Must not know: the link, the hub.
 */
import { type Tracker } from '@rephub/bitmap';
import {
  type BlockDevice,
  type BlockRequest,
  type Abilities,
  blockStatus,
  Command,
  CommandFlag,
  DeviceError,
  type Limits,
  NbdError,
} from '@rephub/nbd';
import { type Clock, type Logger } from '@rephub/platform';
import { FrameType } from '@rephub/protocol';
import { type Acknowledgement } from '../mirror/acknowledgement.js';
import { type Answerer } from '../mirror/answer-queue.js';
import { type CongestionGate } from '../mirror/congestion-gate.js';
import { dirtyRuns } from '../mirror/dirty-runs.js';
import { Doubts } from '../flushes/doubts.js';
import { FlushDebt, type UpstreamDoubt } from '../flushes/flush-debt.js';
import { type FlushProof } from '../flushes/flush-proof.js';
import { type FreezeGate } from '../mirror/freeze-gate.js';
import { GuestFlushes } from './guest-flushes.js';
import { type Marks } from '../mirror/marks.js';
import { type Mirror } from '../mirror/mirror.js';
import { RangeLock } from '../range-lock.js';
import { WriteOperation } from '../operations.js';
import { Trims } from './trims.js';

/** The metadata context that tells what a resync would send. */
const DIRTY_CONTEXT = 'rephub:dirty';

/** Requests kept for another use, at most. */
const POOL_LIMIT = 512;

export interface GuestVolumeParts {
  /** Its number in marks and records; not its place among the group's volumes. */
  readonly index: number;
  readonly name: string;
  readonly clock: Clock;
  readonly upstream: BlockDevice;
  /** The same disk for background reads: an error that it answers is not repeated. */
  readonly reader: BlockDevice;
  readonly tracker: Tracker;
  readonly marks: Marks;
  readonly proof: FlushProof;
  readonly mirror: Mirror;
  readonly log: Logger;
  readonly upstreamIsUp: () => boolean;
  readonly upstreamDoubt: UpstreamDoubt;
  /** What is in doubt, or owed to the guest, has changed. */
  readonly doubted: () => void;
  /** Makes writes wait for room in the window; null: they never wait (pull-ahead). */
  readonly gate: CongestionGate | null;
  /** Makes writes wait for an absent hub; null: they never wait (continue). */
  readonly freeze: FreezeGate | null;
  /** When what upstream has done is answered; null: at once. */
  readonly acknowledgement: Acknowledgement | null;
}

export class GuestVolume implements BlockDevice, Answerer {
  readonly index: number;
  readonly name: string;
  readonly upstream: BlockDevice;
  /** The same disk for background reads: an error that it answers is not repeated. */
  readonly reader: BlockDevice;
  readonly lock = new RangeLock();
  /** What a failed flush may have dropped: written again when it is copied. */
  readonly doubts = new Doubts();
  readonly debt: FlushDebt;
  /** False while upstream is away: an error then says nothing about the disk. */
  readonly upstreamIsUp: () => boolean;
  readonly abilities: Abilities;
  /** Guest requests completed so far. */
  guestRequests = 0;
  readonly #clock: Clock;
  readonly #tracker: Tracker;
  readonly #marks: Marks;
  readonly #doubted: () => void;
  readonly #proof: FlushProof;
  readonly #mirror: Mirror;
  readonly #log: Logger;
  readonly #gate: CongestionGate | null;
  readonly #freeze: FreezeGate | null;
  readonly #acknowledgement: Acknowledgement | null;
  readonly #trims: Trims;
  readonly #flushes: GuestFlushes;
  readonly #writePool: WriteOperation[] = [];
  #inFlight = 0;
  /** False once upstream has refused a fast zeroing of the guest's: the next ones are refused here. */
  #zeroesFast: boolean;
  readonly #upstreamDoubt: UpstreamDoubt;
  #idle: (() => void) | null = null;

  constructor(parts: GuestVolumeParts) {
    this.index = parts.index;
    this.name = parts.name;
    this.#clock = parts.clock;
    this.upstream = parts.upstream;
    this.reader = parts.reader;
    this.#tracker = parts.tracker;
    this.#marks = parts.marks;
    this.#proof = parts.proof;
    this.#mirror = parts.mirror;
    this.#log = parts.log;
    this.#gate = parts.gate;
    this.#freeze = parts.freeze;
    this.#acknowledgement = parts.acknowledgement;
    this.upstreamIsUp = parts.upstreamIsUp;
    this.#upstreamDoubt = parts.upstreamDoubt;
    this.#doubted = parts.doubted;
    this.debt = new FlushDebt(parts.upstream.abilities.flush, parts.upstreamDoubt, parts.doubted);
    this.#flushes = new GuestFlushes({
      ...parts,
      debt: this.debt,
      answerer: this,
      began: () => this.#inFlight++,
      ended: () => {
        this.#ended();
      },
    });
    this.#trims = new Trims(parts.upstream, {
      discarded: (operation) => this.#taken(operation, FrameType.Discard, []),
      uncertain: (operation) => this.#uncertain(operation),
      failed: (operation, fault) => {
        this.#log.warn('trim-failed', { volume: this.name, fault: String(fault) });
        this.#failed(operation, fault instanceof DeviceError ? fault.nbdError : NbdError.Eio);
      },
    });
    this.#zeroesFast = parts.upstream.abilities.fastZero;
    const abilities = parts.upstream.abilities;
    this.abilities = {
      ...abilities,
      contexts: [...abilities.contexts, DIRTY_CONTEXT],
    };
  }

  get sizeBytes(): number {
    return this.upstream.sizeBytes;
  }

  get limits(): Limits {
    return this.upstream.limits;
  }

  submit(request: BlockRequest): void {
    switch (request.command) {
      case Command.Read:
      case Command.Cache:
        this.guestRequests++;
        request.startedMs = this.#clock.monotonicMs();
        if ((request.flags & CommandFlag.Fua) === 0) this.upstream.submit(request);
        else this.#flushes.beforeRead(request);
        return;
      case Command.BlockStatus:
        // Its time depends on what it asks for, and is not measured.
        request.startedMs = 0;
        this.#submitStatus(request);
        return;
      case Command.Flush:
        request.startedMs = this.#clock.monotonicMs();
        this.#flushes.submit(request);
        return;
      case Command.WriteZeroes:
        // Nothing is touched: what upstream has refused once need not become dirty again and again.
        if ((request.flags & CommandFlag.FastZero) !== 0 && !this.#zeroesFast) request.complete(NbdError.Enotsup);
        else this.#submitWrite(request);
        return;
      case Command.Write:
      case Command.Trim:
        this.#submitWrite(request);
        return;
    }
  }

  /** Resolves when nothing of the guest's is in flight. */
  async close(): Promise<void> {
    if (this.#inFlight === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }

  // Writes --------------------------------------------------------------------------------------

  #submitWrite(request: BlockRequest): void {
    this.#inFlight++;
    const operation = this.#writePool.pop() ?? new WriteOperation(this);
    operation.outer = request;
    operation.inner.startedMs = this.#clock.monotonicMs();
    operation.rangeStart = request.offset;
    operation.rangeEnd = request.offset + request.length;
    if (this.lock.acquire(operation)) this.locked(operation);
  }

  /** The operation holds its range. */
  locked(operation: WriteOperation): void {
    if (this.#freeze?.hold(operation) === true || this.#gate?.hold(operation) === true) {
      // It waits for the hub: how long it takes says nothing of the disk.
      operation.inner.startedMs = 0;
      return;
    }
    this.#mark(operation);
  }

  /** There is room for its record now. The link may have gone meanwhile, which lets everything pass the gate. */
  admitted(operation: WriteOperation): void {
    if (this.#freeze?.isShut === true) {
      this.#gate?.withdrawn(operation);
      this.locked(operation);
    } else this.#mark(operation);
  }

  /** Marks the operation's range, then goes on upstream. */
  #mark(operation: WriteOperation): void {
    const { rangeStart, rangeEnd } = operation;
    if (this.#marks.begin(this.index, rangeStart, rangeEnd - rangeStart)) {
      this.#goUpstream(operation);
      return;
    }
    void this.#markFirst(operation);
  }

  async #markFirst(operation: WriteOperation): Promise<void> {
    await this.#marks.activate(this.index, operation.rangeStart, operation.rangeEnd - operation.rangeStart);
    this.#goUpstream(operation);
  }

  #goUpstream(operation: WriteOperation): void {
    const outer = operation.outer;
    if (outer === null) return;
    if (outer.command === Command.Trim) {
      this.#trims.begin(operation, outer);
      return;
    }
    const inner = operation.inner;
    inner.command = outer.command;
    inner.flags = outer.flags;
    inner.offset = outer.offset;
    inner.length = outer.length;
    inner.data = outer.data;
    this.upstream.submit(inner);
  }

  /** Upstream has answered the operation's inner request. */
  upstreamAnswered(operation: WriteOperation): void {
    const inner = operation.inner;
    if (inner.error !== 0) {
      if (operation.trimAsZero && this.#trims.refused(operation)) return;
      if (inner.error === NbdError.Enotsup && (inner.flags & CommandFlag.FastZero) !== 0) this.#zeroesFast = false;
      this.#failed(operation, inner.error);
      return;
    }
    let type: FrameType = FrameType.Write;
    if (inner.command !== Command.Write) {
      const keepsSpace = (inner.flags & CommandFlag.NoHole) !== 0;
      type = keepsSpace ? FrameType.Zero : FrameType.Discard;
    }
    this.#taken(operation, type, inner.data);
  }

  /** Upstream has taken it: ticket, number, answer. */
  #taken(operation: WriteOperation, type: FrameType, data: readonly Buffer[]): void {
    const offset = operation.rangeStart;
    const length = operation.rangeEnd - offset;
    const ticket = this.#tracker.takeTicket();
    this.#proof.written(this.index, ticket);
    const number = this.#mirrored(type, offset, length, data);
    this.#marks.end(this.index, offset, length, ticket, number);
    this.#done(operation, NbdError.Ok, number);
  }

  #mirrored(type: FrameType, offset: number, length: number, data: readonly Buffer[]): number {
    try {
      return this.#mirror.written(type, this.index, offset, length, data);
    } catch (fault) {
      this.#mirror.fail(fault);
      this.#tracker.setDirty(this.index, offset, length);
      return 0;
    }
  }

  /** Failed, or its fate is unknown: what upstream holds there must be read again. */
  #failed(operation: WriteOperation, error: number): void {
    this.#unnumbered(operation);
    this.#done(operation, error, 0);
  }

  #unnumbered(operation: WriteOperation): void {
    const offset = operation.rangeStart;
    const length = operation.rangeEnd - offset;
    const ticket = this.#tracker.takeTicket();
    this.#proof.written(this.index, ticket);
    this.#mirror.unknown(this.index, offset, length);
    this.#marks.end(this.index, offset, length, ticket, 0);
  }

  /** The operation is over here; its request is answered when the mode allows it. */
  #done(operation: WriteOperation, error: number, number: number): void {
    const outer = operation.outer;
    this.#gate?.done(operation);
    this.lock.release(operation);
    operation.recycle();
    if (this.#writePool.length < POOL_LIMIT) this.#writePool.push(operation);
    if (outer === null) return;
    const isFua = (outer.flags & CommandFlag.Fua) !== 0;
    if (error === 0 && this.#acknowledgement?.holdWrite(number, isFua, outer, this) === true) return;
    this.answer(outer, error);
  }

  /** Answers a request of the guest's that is over. */
  answer(request: BlockRequest, error: number): void {
    this.guestRequests++;
    request.complete(error);
    this.#ended();
  }

  /** The operation waited for the hub, and the agent is stopping. */
  givenUp(operation: WriteOperation): void {
    this.#done(operation, NbdError.Eshutdown, 0);
  }

  #ended(): void {
    if (--this.#inFlight === 0 && this.#idle !== null) {
      this.#idle();
      this.#idle = null;
    }
  }

  /** Trimmed, and nobody can say what upstream holds there: read again. */
  #uncertain(operation: WriteOperation): void {
    this.#unnumbered(operation);
    this.#done(operation, NbdError.Ok, 0);
  }

  // What upstream may have lost (promises FLUSH, REPLAY, CLEAR) --------------------------------------

  /**
   * Writes that were acknowledged and not flushed may be gone upstream, and are not at hand to be written again. What
   * a crash would resync is dirty now, and the guest's next flush fails, or the one under way, since no flush can cover
   * them any more. `isDropped`: by a flush that failed; what readers see still is written again when it is copied.
   */
  unflushedLost(isDropped: boolean): void {
    if (!this.#proof.hasUnflushed(this.index)) return;
    this.debt.owe();
    for (const { offset, length } of [...this.#tracker.runs(this.index)]) {
      if (isDropped) this.contentDropped(offset, length);
      else this.contentUnknown(offset, length);
    }
  }

  /** What upstream may have lost has changed. */
  doubtChanged(): void {
    this.#doubted();
  }

  /** Something is in doubt, or will be if this process does not live to write it again. */
  get mayHaveDropped(): boolean {
    return this.doubts.bytes > 0 || this.#upstreamDoubt.mayHaveDropped;
  }

  /** Upstream may hold something else there than before: it is read again. */
  contentUnknown(offset: number, length: number): void {
    this.#mirror.unknown(this.index, offset, length);
  }

  /** Not all that was written is known to be on stable storage upstream. */
  get hasUnflushed(): boolean {
    return this.#proof.hasUnflushed(this.index);
  }

  /** Something of it was read and has become a record, though it was not marked. */
  wasCopied(): void {
    this.#proof.copied(this.index, this.#tracker.takeTicket());
  }

  /** What was copied since the last flush may be what upstream showed before it was written again. */
  playedAgain(offset: number, length: number): void {
    if (this.#proof.hasUnflushedCopy(this.index)) this.contentUnknown(offset, length);
  }

  /** A failed flush may have dropped what upstream shows there: it is read and written again. */
  contentDropped(offset: number, length: number): void {
    if (!this.doubts.add(offset, length)) this.#log.warn('doubt-too-large', { volume: this.name, offset, length });
    this.#doubted();
    this.contentUnknown(offset, length);
  }

  /** An acknowledged write is gone for good: no flush can cover it any more. */
  writeLost(offset: number, length: number): void {
    this.debt.owe();
    this.contentUnknown(offset, length);
  }

  /** A flush that nobody asked for but upstream's side, where what was written since the last one is kept. */
  flushForRoom(): void {
    if (this.abilities.flush) this.#flushes.send(null);
  }

  // Block status ---------------------------------------------------------------------------------

  #submitStatus(request: BlockRequest): void {
    if (!request.contexts.includes(DIRTY_CONTEXT)) {
      this.upstream.submit(request);
      return;
    }
    void this.#statusWithDirty(request);
  }

  async #statusWithDirty(request: BlockRequest): Promise<void> {
    const { offset, length, contexts } = request;
    try {
      for (const context of contexts) {
        request.extents.push(
          context === DIRTY_CONTEXT
            ? { runs: dirtyRuns(this.#tracker, this.index, request) }
            : await blockStatus(this.upstream, offset, length, context, request.flags & CommandFlag.RequestOne),
        );
      }
      request.complete(NbdError.Ok);
    } catch {
      request.complete(NbdError.Eio);
    }
  }
}
