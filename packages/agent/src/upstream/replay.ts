/**
 * Plays the replay log: what was acknowledged and not flushed, and what is of unknown fate, is written again in
 * submission order, before anything else passes (promise REPLAY). Entries that do not overlap go together.
 *
 * Ends early when a connection is lost, or when an entry is refused in a way that another try may mend; and is to be done
 * again when one that was to be on stable storage failed, for upstream may have dropped with it what was played before.
 */
import { BlockRequest, Command, CommandFlag, NbdError } from '@rephub/nbd';
import { RangeLock, type RangeHolder } from '../range-lock.js';
import { type Piece } from '../ranges.js';
import { type Lane, type LaneUser } from './lane.js';
import { type LanePool } from './lane-pool.js';
import { type UpstreamOp } from './upstream-op.js';
import { type UpstreamParts } from './upstream-parts.js';
import { type WaitingRoom } from './waiting-room.js';
import { EntryState, type ReplayLog } from './replay-log.js';
import { partOf, planReplay } from './replay-plan.js';
import { isRetried } from './retry-policy.js';

export interface ReplayParts {
  readonly pool: LanePool;
  readonly log: ReplayLog;
  /** Upstream came back read-only and is used so: nothing can be played. */
  readonly readOnly: boolean;
  /** An entry that is refused with EIO is tried again later, not given up. */
  readonly mayTryAgain: boolean;
  /** Whether the submitter of an unanswered entry waits for it to be played; another will send it again itself. */
  readonly isAwaited: (entry: number) => boolean;
  /** An entry that nobody had an answer to has one now. */
  readonly openAnswered: (entry: number, error: number) => void;
  /** An acknowledged write that was to be on stable storage was answered with an error: as a flush, it may have dropped others. */
  readonly syncFailed: (error: number) => void;
  /** An acknowledged entry could not be written again. */
  readonly refused: (offset: number, length: number, error: number) => void;
}

/** Written, given up, or to be tried again with new connections. */
export type ReplayOutcome = 'played' | 'again';

const DEPTH = 16;

export class Replay {
  /** Ranges that may not hold now what they held before: played trims, and writes that had failed or were refused. */
  readonly unsure: Piece[] = [];
  /** Ranges where upstream may show what no entry has: if a flush has dropped it, a later one makes nothing of it stable. */
  readonly unplayed: Piece[] = [];
  /** A write that was to be on stable storage is in a cache again. */
  durableAgainWanted = false;
  played = 0;
  readonly #parts: ReplayParts;
  readonly #lock = new RangeLock();
  readonly #free: PlayRequest[] = [];
  readonly #end: number;
  readonly #plan: ReadonlyMap<number, readonly Piece[]>;
  #cursor: number;
  /** Pieces of the cursor's entry that are on their way. */
  #piece = 0;
  readonly #givenUp: number[] = [];
  #busy = 0;
  /** Trims of so many bytes may still be played as zeroings. */
  #zeroableBytes: number;
  #outcome: ReplayOutcome = 'played';
  #stopped = false;
  #pumping = false;
  #done: ((outcome: ReplayOutcome) => void) | null = null;

  constructor(parts: ReplayParts) {
    this.#parts = parts;
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

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const { log, isAwaited } = this.#parts;
    while (!this.#stopped && this.#cursor < this.#end) {
      const state = log.stateOf(this.#cursor);
      if (state === EntryState.Gone || (state === EntryState.Open && !isAwaited(this.#cursor))) {
        // What its first try has left in part is overwritten by the next one, unless that is a trim, or there is none.
        if (state === EntryState.Open)
          this.unplayed.push({ offset: log.offsetOf(this.#cursor), length: log.lengthOf(this.#cursor) });
        this.#cursor++;
        this.#piece = 0;
        continue;
      }
      if (state === EntryState.Scar || state === EntryState.Refused) {
        const entry = this.#cursor++;
        const range = { offset: log.offsetOf(entry), length: log.lengthOf(entry) };
        this.unsure.push(range);
        this.unplayed.push(range);
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
    // Where one is missing another stands in its place: what it took into a cache of its own would come back later.
    const lane = readOnly || pool.missing ? undefined : pool.choose(play.rangeStart);
    if (lane === undefined) {
      this.ended(play, readOnly ? NbdError.Eperm : null);
      return;
    }
    request.command = this.#commandFor(play, lane);
    request.flags = log.flagsOf(entry);
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

  /** `error` null: not known, the connection was lost or the play is over. */
  ended(play: PlayRequest, error: number | null): void {
    const { entry } = play;
    const { offset, length } = { offset: play.rangeStart, length: play.rangeEnd - play.rangeStart };
    const { command } = play.request;
    // First: what waits for its range may be answered within the release, and must not be taken for the end of it all.
    if (error === null) this.#stopped = true;
    else this.#answered(entry, offset, length, error, command);
    this.#busy--;
    play.recycle();
    this.#free.push(play);
    this.#lock.release(play);
    this.#pump();
  }

  #answered(entry: number, offset: number, length: number, error: number, command: Command): void {
    const { log, openAnswered, refused, syncFailed, mayTryAgain } = this.#parts;
    const isOpen = log.stateOf(entry) === EntryState.Open;
    if (error !== 0 && (log.flagsOf(entry) & CommandFlag.Fua) !== 0) {
      // The next time it is not played: whoever waits for it has its answer, or it is given up; or tries are left.
      this.#outcome = 'again';
      if (!isOpen) syncFailed(error);
    }
    if (error === 0) {
      this.played++;
      if (log.commandOf(entry) === Command.Trim) this.unsure.push({ offset, length });
      if (command === Command.Trim) this.unplayed.push({ offset, length });
      if (!isOpen && (log.flagsOf(entry) & CommandFlag.Fua) !== 0) this.durableAgainWanted = true;
    }
    if (isOpen) {
      openAnswered(entry, error);
    } else if (error !== 0 && isRetried(error) && mayTryAgain) {
      this.#stopped = true;
      this.#outcome = 'again';
    } else if (error !== 0) {
      // Its other pieces may be on their way: their bytes are still needed.
      this.#givenUp.push(entry);
      this.unplayed.push({ offset, length });
      refused(offset, length, error);
    }
  }

  #maybeDone(): void {
    if (this.#busy > 0 || (!this.#stopped && this.#cursor < this.#end)) return;
    for (const entry of this.#givenUp.splice(0)) this.#parts.log.giveUp(entry);
    const done = this.#done;
    this.#done = null;
    done?.(this.#outcome);
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
  { pool, log, room }: { readonly pool: LanePool; readonly log: ReplayLog; readonly room: WaitingRoom },
  mayTryAgain: boolean,
  {
    answered,
    syncFailed,
  }: Pick<ReplayParts, 'syncFailed'> & { readonly answered: (op: UpstreamOp, error: number) => void },
): Replay {
  return new Replay({
    pool,
    log,
    readOnly: pool.lanes.some(({ connection }) => connection.abilities.readOnly),
    mayTryAgain,
    isAwaited: (entry) => room.byEntry(entry) !== undefined,
    syncFailed,
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
