/**
 * The connections of one volume's upstream: opens them, chooses one for a request, lets them go.
 *
 * Always holds: a lane in `lanes` lives; each of the needed places has at most one lane.
 * Must not know: what requests mean, retrying.
 */
import { type BlockDevice, type BlockRequest } from '@rephub/nbd';
import { asError, type Fault, type Logger } from '@rephub/platform';
import { Lane, type LaneUser, type OpenUpstream, type UpstreamConnection } from './lane.js';
import { type PoolPlan } from './multi-conn.js';
import { placeOf } from './placement.js';

/**
 * A lane takes so many requests before the next one is used: what leaves together in one system call is cheaper
 * than what leaves in four, and most servers work on about so many of a connection at once.
 */
const LANE_DEPTH = 16;
/** So many openings of one more lane, each in vain, are enough for a while. */
const GROW_ATTEMPTS = 3;

export interface LanePoolParts {
  readonly open: OpenUpstream;
  readonly plan: PoolPlan;
  readonly log: Logger;
  readonly name: string;
  /** Throws the Fault of a connection that is not to be used. */
  readonly check: (connection: BlockDevice) => void;
  readonly lost: (lane: Lane, fault: Fault) => void;
  /** One that was let go has said that not all of what it took is stored. */
  readonly closeFailed: (error: Error) => void;
  /** Resolves when a lane has answered something that was asked after this call, or is known to be lost. Never rejects. */
  readonly answers: () => Promise<void>;
}

export class LanePool {
  readonly lanes: Lane[] = [];
  readonly #parts: LanePoolParts;
  #growing = false;
  #growFailures = 0;
  #growConnectMs = 0;
  #closed = false;

  constructor(parts: LanePoolParts) {
    this.#parts = parts;
  }

  get plan(): PoolPlan {
    return this.#parts.plan;
  }

  get inFlight(): number {
    let count = 0;
    for (const lane of this.lanes) count += lane.inFlight;
    return count;
  }

  /** Needed places without a lane. */
  get missing(): boolean {
    return this.lanes.length < this.plan.needed;
  }

  /** What all of them can do; 0 when there is none. */
  get smallestBytes(): number {
    return this.lanes.length === 0 ? 0 : Math.min(...this.lanes.map(({ connection }) => connection.sizeBytes));
  }

  /** One more connection would be no burden to upstream. */
  get isShared(): boolean {
    return this.lanes.length > 0 && this.lanes.every(({ connection }) => connection.abilities.multiConn);
  }

  /** What they are connected to can become larger under them. */
  get canGrow(): boolean {
    return this.lanes.length > 0 && this.lanes.every(({ connection }) => connection.grow !== undefined);
  }

  /** Has all look how large they are now; the smallest. */
  async grow(): Promise<number> {
    let smallest = Infinity;
    for (const { connection } of [...this.lanes]) {
      smallest = Math.min(smallest, (await connection.grow?.()) ?? connection.sizeBytes);
    }
    return smallest;
  }

  /** Takes in a connection that was opened before there was a pool. */
  adopt(opened: WatchedConnection): Lane {
    return this.#add(opened);
  }

  /** The lane for a request at this offset; there must be one. */
  choose(offset: number): Lane {
    const { lanes } = this;
    const first = lanes[0];
    if (first === undefined) throw new Error('no lane');
    if (this.plan.placed) return lanes[placeOf(offset, this.plan.needed)] ?? first;
    if (this.plan.most === 1 || first.inFlight < LANE_DEPTH) return first;
    return this.#leastBusy(first);
  }

  #leastBusy(first: Lane): Lane {
    let best = first;
    for (const lane of this.lanes) {
      if (lane.inFlight < LANE_DEPTH) return lane;
      if (lane.inFlight < best.inFlight) best = lane;
    }
    if (this.lanes.length < this.plan.most) this.#grow();
    return best;
  }

  /**
   * A write that failed, the `stamp`th answer to one, may have been done in part on any of them: the next flush has something
   * to do, and one that is under way does not cover it.
   */
  written(stamp: number): void {
    for (const lane of this.lanes) lane.written(stamp);
  }

  /** Opens a lane for the first place that lacks one. Throws the Fault of why there is none. */
  async openNext(timeoutMs: number): Promise<void> {
    const opened = await this.#open(timeoutMs);
    if (this.#closed) {
      await opened.connection.close();
      return;
    }
    this.#growConnectMs = timeoutMs;
    this.#add(opened);
  }

  async #open(timeoutMs: number): Promise<WatchedConnection> {
    const opened = await openWatched(this.#parts.open, timeoutMs);
    try {
      this.#parts.check(opened.connection);
    } catch (fault) {
      await opened.connection.close();
      throw fault;
    }
    return opened;
  }

  /**
   * One more beside those that are there. Nothing goes to it before one of those has answered since it was opened: silent
   * ones may belong to a server that is gone, and the new one's disk may lack what that had not flushed (REPLAY).
   */
  async #openBeside(timeoutMs: number): Promise<void> {
    const [older] = this.lanes;
    const opened = await this.#open(timeoutMs);
    await this.#parts.answers();
    if (!this.#closed && older !== undefined && this.lanes.includes(older)) this.#add(opened);
    else await opened.connection.close();
  }

  #add(opened: WatchedConnection): Lane {
    const taken = new Set(this.lanes.map(({ place }) => place));
    let place = 0;
    while (taken.has(place)) place++;
    const lane = new Lane(opened.connection, place);
    this.lanes.push(lane);
    this.lanes.sort((one, other) => one.place - other.place);
    opened.watch((fault) => {
      this.#lose(lane, fault);
    });
    return lane;
  }

  #lose(lane: Lane, fault: Fault): void {
    const at = this.lanes.indexOf(lane);
    // Let go by ourselves: its death is nothing new.
    if (at < 0) return;
    this.lanes.splice(at, 1);
    this.#parts.lost(lane, fault);
    for (const request of lane.connection.takeUnfinished?.() ?? []) takenBack(request);
  }

  /** One more, when all are busy; its failure is no outage. */
  #grow(): void {
    if (this.#growing || this.#closed || this.#growFailures >= GROW_ATTEMPTS) return;
    this.#growing = true;
    this.#openBeside(Math.max(1_000, this.#growConnectMs)).then(
      () => {
        this.#growing = false;
      },
      (thrown: unknown) => {
        this.#growing = false;
        this.#growFailures++;
        const { log, name } = this.#parts;
        log.info('upstream-gives-no-more', {
          volume: name,
          connections: this.lanes.length,
          reason: asError(thrown).message,
        });
      },
    );
  }

  /** Lets all go in an orderly way; what is in flight is completed first. Never rejects: they are gone, whatever they say. */
  async closeAll(): Promise<void> {
    const lanes = this.lanes.splice(0);
    this.#growFailures = 0;
    const outcomes = await Promise.allSettled(lanes.map(({ connection }) => connection.close()));
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') this.#parts.closeFailed(asError(outcome.reason));
    }
  }

  /** For good. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.closeAll();
  }
}

function takenBack(request: BlockRequest): void {
  (request.owner as LaneUser).taken();
}

/** A connection whose loss is not missed, even when it comes before anybody watches. */
export interface WatchedConnection {
  readonly connection: UpstreamConnection;
  watch(lost: (fault: Fault) => void): void;
}

export async function openWatched(open: OpenUpstream, timeoutMs: number): Promise<WatchedConnection> {
  const seen: { fault: Fault | null; tell: ((fault: Fault) => void) | null } = { fault: null, tell: null };
  const connection = await open((fault) => {
    seen.fault = fault;
    seen.tell?.(fault);
  }, timeoutMs);
  return {
    connection,
    watch: (lost) => {
      seen.tell = lost;
      if (seen.fault !== null) lost(seen.fault);
    },
  };
}
