/**
 * The one interface between everything that speaks NBD or stores blocks: the server's exports, the
 * client, the file device, the agent's volumes, the hub's replicas and branches are all BlockDevices.
 *
 * A request is submitted, and completed later, exactly once, in any order. The hot path allocates
 * nothing: requests are made by their owner, filled, submitted, completed back to the owner, and used
 * again. Payload is never copied: it travels as slices of the chunks it arrived in.
 *
 * Rules that both sides keep:
 *  - From `submit` to `completed` the request belongs to the device; before and after to its owner.
 *  - `completed` may be called from within `submit`. `submit` does not throw.
 *  - The device changes nothing of a request but `data` (of a read), `extents` and `error`.
 *  - The slices of a read's `data` come held (`holdBytes`): an owner who is done with them may release them, once;
 *    otherwise they stay as they are for good. Those of a write stay as they are until it is completed; whoever keeps a slice for longer holds it (`holdBytes`; the agent's window does).
 *  - Offsets and lengths are byte counts, non-negative safe integers; the owner has checked that the
 *    range lies inside the device and honours `limits`. Lengths of zero are completed by the owner and not submitted.
 *  - Overlapping requests in flight are ordered by nobody here; who needs an order keeps it itself.
 *  - `flush` covers every write, zeroing and trim completed before it was submitted, by whomever.
 */
import { ZEROES } from './zeroes.js';

export const Command = {
  Read: 0,
  Write: 1,
  Flush: 3,
  Trim: 4,
  Cache: 5,
  WriteZeroes: 6,
  BlockStatus: 7,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

/** Bits of BlockRequest.flags, with the values of the NBD command flags. */
export const CommandFlag = {
  /** On stable storage before it is completed (write, zero, trim). On a read: as PREFLUSH. */
  Fua: 1 << 0,
  /** The zeroes must be stored, not a hole. */
  NoHole: 1 << 1,
  /** Structured reads: one chunk. Of no meaning below the server. */
  DontFragment: 1 << 2,
  /** Block status: one extent is enough. */
  RequestOne: 1 << 3,
  /** Zeroing: fail with ENOTSUP at once unless it is faster than writing. */
  FastZero: 1 << 4,
} as const;

/** Errors as NBD numbers them. Completed requests carry one of these, or 0. */
export const NbdError = {
  Ok: 0,
  Eperm: 1,
  Eio: 5,
  Enomem: 12,
  Einval: 22,
  Enospc: 28,
  Eoverflow: 75,
  Enotsup: 95,
  Eshutdown: 108,
} as const;

/** The one context of which "nothing known" may be told as data that is there. */
export const ALLOCATION_CONTEXT = 'base:allocation';

/** Bits of a `base:allocation` extent. */
export const AllocationFlag = { Hole: 1, Zero: 2 } as const;

/**
 * The answer to a block status request, for one metadata context: runs that follow one another from
 * the request's offset on, at least one; they may stop short of its end or, the last one, reach beyond it.
 */
export interface StatusExtents {
  /** Bytes of each run, and its flags, in pairs: [length, flags, length, flags, …]. */
  readonly runs: readonly number[];
}

export interface Completion {
  /** Nobody hears any more how a request went. */
  readonly isGone?: boolean;
  completed(request: BlockRequest): void;
}

export class BlockRequest {
  command: Command = Command.Read;
  /** CommandFlag bits. */
  flags = 0;
  offset = 0;
  length = 0;
  /**
   * Write: the payload, `length` bytes in all. Read: filled by the device on success with exactly
   * `length` bytes; runs known to be zero may be slices of ZEROES (see isZeroes). Emptied by `reset`.
   */
  data: Buffer[] = [];
  /** Block status: the names of the contexts wanted; set by the owner. */
  contexts: readonly string[] = NO_CONTEXTS;
  /** Block status: one answer for each of `contexts`; set by the device. */
  extents: StatusExtents[] = [];
  /** NbdError of the outcome; 0 is success. */
  error = 0;
  /** Where the request goes back to. */
  owner: Completion;
  /** Room for the owner: the NBD cookie, a link to an outer request. The device leaves them alone. */
  tagHigh = 0;
  tagLow = 0;
  outer: BlockRequest | null = null;
  /** Clock.monotonicMs when it was submitted, for time limits and latency; set by who needs it. */
  startedMs = 0;

  constructor(owner: Completion) {
    this.owner = owner;
  }

  /** Ready for another use; drops its hold on all payload. */
  reset(): void {
    if (this.data.length > 0) this.data = [];
    if (this.extents.length > 0) this.extents = [];
    this.contexts = NO_CONTEXTS;
    this.flags = 0;
    this.offset = 0;
    this.length = 0;
    this.error = 0;
    this.outer = null;
  }

  /** Gives the request back to its owner with this outcome. */
  complete(error: number): void {
    this.error = error;
    this.owner.completed(this);
  }
}

const NO_CONTEXTS: readonly string[] = [];

/** What a device can do; an NBD server advertises it as transmission flags. */
export interface Abilities {
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly trim: boolean;
  readonly writeZeroes: boolean;
  readonly fastZero: boolean;
  readonly cache: boolean;
  /** A flush on one connection covers what was written on all, and no connection reads stale data. */
  readonly multiConn: boolean;
  /** Metadata contexts that block status answers, `base:allocation` among them where it is known. */
  readonly contexts: readonly string[];
}

/** Of a device in memory, or as quick: nothing is refused. */
export const ALL_ABILITIES: Abilities = {
  readOnly: false,
  flush: true,
  fua: true,
  trim: true,
  writeZeroes: true,
  fastZero: true,
  cache: true,
  multiConn: true,
  contexts: [ALLOCATION_CONTEXT],
};

/** Block size constraints, in bytes, powers of two but for `maximumBytes` (a multiple of `minimumBytes`). */
export interface Limits {
  readonly minimumBytes: number;
  readonly preferredBytes: number;
  /** The largest payload of one read or write; zeroing, trimming, caching and status are not bound by it. */
  readonly maximumBytes: number;
}

export const DEFAULT_LIMITS: Limits = { minimumBytes: 1, preferredBytes: 4096, maximumBytes: 32 * 1024 * 1024 };

export interface BlockDevice {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  submit(request: BlockRequest): void;
  /** No more is submitted. Resolves when all in flight has been completed and what it held is let go; does not flush. */
  close(): Promise<void>;
}

/** True when the slice is part of ZEROES, so known to be zero without looking. */
export function isZeroes(slice: Buffer): boolean {
  return slice.buffer === ZEROES.buffer;
}
