/**
 * Plays the replay log: what was acknowledged and not flushed, and what is of unknown fate, is written again in
 * submission order, before anything else passes (promise REPLAY). Entries that do not overlap go together.
 *
 * Is to be done again when a connection is lost; when an entry is refused in a way that another try may mend; and when one
 * that was to be on stable storage failed, or a flush, for upstream may have dropped with it what was played before. An entry
 * that is refused holds back what overlaps it, and nothing else: the rest is played and flushed, and is not played again.
 *
 * Always holds: an entry leaves the log only when a flush that was sent after it was played has succeeded, on connections of
 * which none was lost since this replay began.
 */
import { BlockRequest, Command, CommandFlag, NbdError } from '@rephub/nbd';
import { RangeLock, type RangeHolder } from '../range-lock.js';
import { type Piece, Ranges } from '../ranges.js';
import { FlushRun } from './flush-run.js';
import { type Lane, type LaneUser } from './lane.js';
import { type LanePool } from './lane-pool.js';
import { lanesToFlush } from './multi-conn.js';
import { type UpstreamOp } from './upstream-op.js';
import { type UpstreamParts } from './upstream-parts.js';
import { type WaitingRoom } from './waiting-room.js';
import { EntryState, type ReplayLog } from './replay-log.js';
import { partOf, planReplay, stableEntries } from './replay-plan.js';
import { type ReplayProgress } from './replay-progress.js';
import { isRetried } from './retry-policy.js';

/** One of the replays of an outage. */
export interface ReplayAttempt {
  readonly progress: ReplayProgress;
  /** An entry that is refused with EIO is tried again later, not given up. */
  readonly mayTryAgain: boolean;
  /** A connection was lost since it began. */
  readonly isCut: () => boolean;
}

export interface ReplayParts extends ReplayAttempt {
  readonly pool: LanePool;
  readonly log: ReplayLog;
  /** Upstream came back read-only and is used so: nothing can be played. */
  readonly readOnly: boolean;
  /** Whether the submitter of an unanswered entry waits for it to be played; another will send it again itself. */
  readonly isAwaited: (entry: number) => boolean;
  /** An entry that nobody had an answer to has one now. */
  readonly openAnswered: (entry: number, error: number) => void;
  /**
   * A flush, or an acknowledged write that was to be on stable storage, was answered with an error, or went with its connection
   * (null): it may have dropped what was written before.
   */
  readonly syncFailed: (error: number | null) => void;
  /** An acknowledged entry could not be written again. */
  readonly refused: (offset: number, length: number, error: number) => void;
}

/** Written, given up, or to be tried again with new connections. */
export type ReplayOutcome = 'played' | 'again';

const DEPTH = 16;
/** So many refused in a row: upstream takes nothing at all just now. */
const MOST_REFUSED = 64;

export class Replay {
  /** A write that was to be on stable storage is in a cache again. */
  durableAgainWanted = false;
  played = 0;
  /** Something is stable now that was not. */
  hasProgressed = false;
  readonly #parts: ReplayParts;
  /** Ranges that may not hold now what they held before: played trims, and writes that had failed or were refused. */
  readonly #unsure: Piece[];
  /** Ranges where upstream may show what no entry has: if a flush has dropped it, a later one makes nothing of it stable. */
  readonly #unplayed: Piece[];
  readonly #lock = new RangeLock();
  readonly #free: PlayRequest[] = [];
  readonly #end: number;
  readonly #plan: ReadonlyMap<number, readonly Piece[]>;
  #cursor: number;
  /** Pieces of the cursor's entry that are on their way. */
  #piece = 0;
  readonly #givenUp: number[] = [];
  /** Entries that are to be tried again, or wait for one of those; and the ranges that others must not write before them. */
  readonly #left = new Set<number>();
  readonly #leftRanges = new Ranges();
  /** Those that were played as trims. */
  readonly #trimmed = new Set<number>();
  /** Sent since upstream was flushed last, and of that done. */
  #sinceFlush = 0;
  #doneSinceFlush = 0;
  #refusedInARow = 0;
  #isFlushing = false;
  #flushFailed = false;
  /** What was to be on stable storage was played as a write since then. */
  #flushOwed = false;
  /** What was played may be dropped again. */
  #mayHaveDropped = false;
  #busy = 0;
  /** Trims of so many bytes may still be played as zeroings. */
  #zeroableBytes: number;
  #outcome: ReplayOutcome = 'played';
  #stopped = false;
  #pumping = false;
  #done: ((outcome: ReplayOutcome) => void) | null = null;

  constructor(parts: ReplayParts) {
    this.#parts = parts;
    this.#unsure = [...parts.progress.unsure];
    this.#unplayed = [...parts.progress.unplayed];
    this.#cursor = parts.log.firstEntry;
    this.#end = parts.log.nextEntry;
    this.#zeroableBytes = parts.log.limitBytes;
    this.#plan = planReplay(parts.log);
    for (let at = 0; at < DEPTH; at++) this.#free.push(new PlayRequest(this));
  }

  run(): Promise<ReplayOutcome> {
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#pump();
    });
  }

  /** Tells what has come of it, when all is played. `hasDropped`: a flush had failed, and may have dropped what was not. */
  tell(hooks: UpstreamParts['hooks'], hasDropped: boolean): void {
    const { log, progress } = this.#parts;
    for (const { offset, length } of this.#unsure) hooks.contentUnknown(offset, length);
    if (hasDropped) for (const { offset, length } of this.#unplayed) hooks.contentDropped(offset, length);
    for (const { offset, length } of [...progress.playedAgain, ...log.acknowledgedRanges()])
      hooks.playedAgain(offset, length);
  }

  #pump(): void {
    if (this.#pumping || this.#isFlushing) return;
    this.#pumping = true;
    const { log, isAwaited, progress } = this.#parts;
    while (!this.#stopped && this.#cursor < this.#end && this.#sinceFlush < progress.stride) {
      const state = log.stateOf(this.#cursor);
      if (state === EntryState.Gone || (state === EntryState.Open && !isAwaited(this.#cursor))) {
        // What its first try has left in part is overwritten by the next one, unless that is a trim, or there is none.
        if (state === EntryState.Open)
          this.#unplayed.push({ offset: log.offsetOf(this.#cursor), length: log.lengthOf(this.#cursor) });
        this.#cursor++;
        this.#piece = 0;
        continue;
      }
      if (state === EntryState.Scar || state === EntryState.Refused) {
        const entry = this.#cursor++;
        const range = { offset: log.offsetOf(entry), length: log.lengthOf(entry) };
        this.#unsure.push(range);
        this.#unplayed.push(range);
        continue;
      }
      const pieces = this.#plan.get(this.#cursor);
      if (pieces?.length === 0) this.#skip(this.#cursor++);
      else {
        const request = this.#free.pop();
        if (request === undefined) break;
        this.#play(request, this.#cursor, pieces?.[this.#piece++]);
        if (pieces !== undefined && this.#piece < pieces.length) continue;
        this.#piece = 0;
        this.#cursor++;
      }
    }
    this.#pumping = false;
    this.#maybeDone();
  }

  /** All of it was overwritten by what is played later. */
  #skip(entry: number): void {
    if ((this.#parts.log.flagsOf(entry) & CommandFlag.Fua) !== 0) this.durableAgainWanted = true;
  }

  #play(play: PlayRequest, entry: number, piece: Piece | undefined): void {
    const { log } = this.#parts;
    this.#busy++;
    this.#sinceFlush++;
    play.entry = entry;
    play.rangeStart = piece?.offset ?? log.offsetOf(entry);
    play.rangeEnd = play.rangeStart + (piece?.length ?? log.lengthOf(entry));
    if (this.#lock.acquire(play)) this.send(play);
  }

  /** Its range is free of older entries. */
  send(play: PlayRequest): void {
    if (this.#stopped) {
      this.ended(play, null);
      return;
    }
    const { log, pool, readOnly } = this.#parts;
    const { request, entry } = play;
    if (this.#leftRanges.within(play.rangeStart, play.rangeEnd).length > 0) {
      this.#leave(play);
      this.#over(play);
      return;
    }
    request.flags = this.#flagsFor(entry);
    // Where one is missing another stands in its place: what it took into a cache of its own would come back later.
    const lane = readOnly || pool.missing ? undefined : pool.choose(play.rangeStart);
    if (lane === undefined) {
      this.ended(play, readOnly ? NbdError.Eperm : null);
      return;
    }
    request.command = this.#commandFor(play, lane);
    request.offset = play.rangeStart;
    request.length = play.rangeEnd - play.rangeStart;
    // The slices stay the log's; a request's array is only read for a write.
    const data = log.dataOf(entry);
    const isWhole = request.length === log.lengthOf(entry) || data.length === 0;
    request.data = isWhole ? (data as Buffer[]) : partOf(data, request.offset - log.offsetOf(entry), request.length);
    play.lane = lane;
    lane.submit(request);
  }

  /**
   * A trim goes as a zeroing, for as many bytes as might be written in a replay: as a trim it may change nothing now, and then a
   * flush that succeeds makes nothing stable of what readers saw of the first one after a flush that failed.
   */
  #commandFor({ entry, rangeStart, rangeEnd }: PlayRequest, lane: Lane): Command {
    const command = this.#parts.log.commandOf(entry);
    const bytes = rangeEnd - rangeStart;
    const isZeroed = command === Command.Trim && lane.connection.abilities.writeZeroes && bytes <= this.#zeroableBytes;
    if (!isZeroed) return command;
    this.#zeroableBytes -= bytes;
    return Command.WriteZeroes;
  }

  /** After a write with FUA has failed they are written without, and flushed: a flush can be tried again by itself. */
  #flagsFor(entry: number): number {
    const { log, progress } = this.#parts;
    const flags = log.flagsOf(entry);
    // Whoever waits for an answer would take it for that of the whole.
    const isByFlush = progress.fuaByFlush && (flags & CommandFlag.Fua) !== 0 && log.stateOf(entry) === EntryState.Kept;
    if (!isByFlush) return flags;
    this.#flushOwed = true;
    return flags & ~CommandFlag.Fua;
  }

  /** `error` null: not known, the connection was lost or the play is over. */
  ended(play: PlayRequest, error: number | null): void {
    // First: what waits for its range may be answered within the release, and must not be taken for the end of it all.
    if (error === null) this.#stopped = true;
    else this.#answered(play, error);
    this.#over(play);
  }

  /** To be tried again with new connections. */
  #leave({ entry, rangeStart, rangeEnd }: PlayRequest): void {
    this.#outcome = 'again';
    this.#left.add(entry);
    this.#leftRanges.add(rangeStart, rangeEnd);
  }

  #over(play: PlayRequest): void {
    this.#busy--;
    play.recycle();
    this.#free.push(play);
    this.#lock.release(play);
    this.#pump();
  }

  #answered(play: PlayRequest, error: number): void {
    const { log, openAnswered, refused, syncFailed, mayTryAgain, progress } = this.#parts;
    const { entry, request } = play;
    const { offset, length } = { offset: play.rangeStart, length: play.rangeEnd - play.rangeStart };
    const isOpen = log.stateOf(entry) === EntryState.Open;
    const isFua = (request.flags & CommandFlag.Fua) !== 0;
    if (error !== 0 && isFua) {
      // The next time it is not played: whoever waits for it has its answer, or it is given up; or tries are left.
      this.#outcome = 'again';
      this.#mayHaveDropped = true;
      progress.syncFailed();
      if (!isOpen) syncFailed(error);
    }
    if (error === 0) {
      this.played++;
      this.#doneSinceFlush++;
      this.#refusedInARow = 0;
      if (log.commandOf(entry) === Command.Trim) this.#unsure.push({ offset, length });
      if (request.command === Command.Trim) {
        this.#unplayed.push({ offset, length });
        this.#trimmed.add(entry);
      }
      if (!isOpen && (log.flagsOf(entry) & CommandFlag.Fua) !== 0) this.durableAgainWanted = true;
    }
    if (isOpen) {
      openAnswered(entry, error);
    } else if (error !== 0 && isRetried(error) && mayTryAgain) {
      // The others may be dropped: they are played again all the same.
      if (isFua || ++this.#refusedInARow >= MOST_REFUSED) this.#stopped = true;
      this.#leave(play);
    } else if (error !== 0) {
      // Its other pieces may be on their way: their bytes are still needed.
      this.#givenUp.push(entry);
      this.#unplayed.push({ offset, length });
      refused(offset, length, error);
    }
  }

  #maybeDone(): void {
    if (this.#busy > 0 || this.#isFlushing) return;
    const isOver = this.#stopped || this.#cursor >= this.#end;
    if (!isOver && this.#sinceFlush < this.#parts.progress.stride) return;
    for (const entry of this.#givenUp.splice(0)) this.#parts.log.giveUp(entry);
    if (!this.#stopped && this.#wantsFlush) {
      this.#flush();
      return;
    }
    // Nothing was played, or it may have been dropped: the rest is played all the same.
    if (!isOver) {
      this.#sinceFlush = 0;
      this.#pump();
      return;
    }
    const { progress, isCut } = this.#parts;
    if (this.#flushFailed) progress.flushFailed();
    else if (isCut()) progress.cut(this.#sinceFlush);
    else if (this.#outcome === 'again') progress.refused();
    const done = this.#done;
    this.#done = null;
    done?.(this.#outcome);
  }

  // What need not be played again ---------------------------------------------------------------

  /** It would make something stable that is to be so before anything passes, or that would have to be played again. */
  get #wantsFlush(): boolean {
    const { progress, readOnly } = this.#parts;
    if (!progress.mayFlush || readOnly || this.#mayHaveDropped || this.#doneSinceFlush === 0) return false;
    return this.#flushOwed || this.#cursor < this.#end || this.#outcome === 'again';
  }

  #flush(): void {
    const { pool, isCut, syncFailed } = this.#parts;
    const lanes = isCut() || pool.missing ? [] : lanesToFlush(pool.lanes, pool.plan.placed, 'off');
    if (lanes.length === 0) {
      this.#stopped = true;
      this.#maybeDone();
      return;
    }
    this.#isFlushing = true;
    const run = new FlushRun((error, isLost) => {
      this.#isFlushing = false;
      if (isLost) syncFailed(null);
      if (error === 0 && !isLost && !isCut()) this.#flushed();
      else {
        this.#flushFailed = error !== 0 || isLost;
        this.#stopped = true;
        if (error !== 0) this.#outcome = 'again';
      }
      this.#pump();
    }, syncFailed);
    run.start(lanes);
  }

  #flushed(): void {
    const { log, progress } = this.#parts;
    const stable = stableEntries(log, this.#cursor, (entry) => !this.#left.has(entry));
    for (const entry of stable) {
      const range = { offset: log.offsetOf(entry), length: log.lengthOf(entry) };
      progress.playedAgain.push(range);
      if (log.commandOf(entry) === Command.Trim) progress.unsure.push(range);
      if (this.#trimmed.has(entry)) progress.unplayed.push(range);
    }
    log.madeStable(stable);
    progress.flushed();
    this.hasProgressed ||= stable.length > 0;
    this.#sinceFlush = 0;
    this.#doneSinceFlush = 0;
    this.#flushOwed = false;
  }
}

const NO_SLICES: Buffer[] = [];

class PlayRequest implements LaneUser, RangeHolder {
  entry = 0;
  rangeStart = 0;
  rangeEnd = 0;
  holderIndex = -1;
  lane: Lane | null = null;
  readonly request: BlockRequest;
  readonly #replay: Replay;

  constructor(replay: Replay) {
    this.#replay = replay;
    this.request = new BlockRequest(this);
  }

  rangeLocked(): void {
    this.#replay.send(this);
  }

  completed(): void {
    const { lane } = this;
    if (lane !== null) {
      lane.inFlight--;
      lane.writtenAgain();
    }
    this.#replay.ended(this, this.request.error);
  }

  taken(): void {
    this.#replay.ended(this, null);
  }

  recycle(): void {
    this.lane = null;
    this.request.data = NO_SLICES;
  }
}

/** The replay of an upstream whose waiting operations are in `room`; `answered` has one that was played, out of it again. */
export function replayFor(
  { hooks, log: told, name }: UpstreamParts,
  {
    room,
    answered,
    ...parts
  }: Omit<ReplayParts, 'readOnly' | 'isAwaited' | 'openAnswered' | 'refused'> & {
    readonly room: WaitingRoom;
    readonly answered: (op: UpstreamOp, error: number) => void;
  },
): Replay {
  return new Replay({
    ...parts,
    readOnly: parts.pool.lanes.some(({ connection }) => connection.abilities.readOnly),
    isAwaited: (entry) => room.byEntry(entry) !== undefined,
    openAnswered: (entry, error) => {
      const op = room.byEntry(entry);
      if (op === undefined) return;
      room.remove(op);
      answered(op, error);
    },
    refused: (offset, length, error) => {
      told.error('replay-refused', { volume: name, offset, length, error });
      hooks.writeLost(offset, length);
    },
  });
}
