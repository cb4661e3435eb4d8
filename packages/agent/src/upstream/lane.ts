/** One connection to upstream, and what is known of it. The pool has one or several. */
import { type BlockRequest, type Completion } from '@rephub/nbd';
import { type Fault } from '@rephub/platform';
import { type NamedDevice } from './same-export.js';

/** A connection, past negotiation. */
export interface UpstreamConnection extends NamedDevice {
  /** Requests in flight in their order, given back uncompleted; for use within `lost`. */
  takeUnfinished?(): BlockRequest[];
  /** Looks how large it is now; what is more is there for use from then on. Where it needs no new connection for that. */
  grow?(): Promise<number>;
}

/** Opens one connection; `lost` is called once when it dies unasked. Throws when there is none to be had in time. */
export type OpenUpstream = (lost: (fault: Fault) => void, timeoutMs: number) => Promise<UpstreamConnection>;

/** Owns requests on a lane: each is completed, or taken when the lane is lost. */
export interface LaneUser extends Completion {
  taken(): void;
}

export class Lane {
  readonly connection: UpstreamConnection;
  /** Its place in the pool: where ranges are bound to places, that of its ranges. */
  readonly place: number;
  /** Submitted and not yet completed or taken. */
  inFlight = 0;
  /** Requests sent in all: a lane whose count stands still is idle. */
  sent = 0;
  /** What `sent` was when the keep-alive looked last, and for how many looks it has stood still. */
  sentSeen = -1;
  quietLooks = 0;
  #writtenStamp = 0;
  /** A new connection may have been written to before, by an earlier process even. */
  #flushedStamp = -1;

  constructor(connection: UpstreamConnection, place: number) {
    this.connection = connection;
    this.place = place;
  }

  /** Something was written here that no flush has covered. */
  get isDirty(): boolean {
    return this.#writtenStamp > this.#flushedStamp;
  }

  submit(request: BlockRequest): void {
    this.inFlight++;
    this.sent++;
    this.connection.submit(request);
  }

  /** A write here was answered, and that was the `stamp`th answer to a write. */
  written(stamp: number): void {
    this.#writtenStamp = stamp;
  }

  /** A write that was answered before was sent again. */
  writtenAgain(): void {
    this.#flushedStamp = -1;
  }

  /** A flush has covered the answers up to this stamp. */
  flushed(stamp: number): void {
    if (stamp > this.#flushedStamp) this.#flushedStamp = stamp;
  }
}
