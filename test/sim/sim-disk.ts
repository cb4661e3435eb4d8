/**
 * A disk of its own behind the upstream NBD server: a volatile cache that power takes away, requests that take their own
 * time and so really overtake one another, ranges that fail, and a size or a write protection that changes.
 *
 * Always holds: what a completed flush covers is stable; a request has its whole effect at one moment between its
 * submission and its completion, or, when it fails, part of it.
 */
import {
  type Abilities,
  AllocationFlag,
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  DEFAULT_LIMITS,
  type Limits,
  NbdError,
} from '@rephub/nbd';
import { type CrashFate, type SeededRandomness, type SimClock } from '@rephub/platform/sim';
import { BLOCK_BYTES, SECTOR_BYTES } from './block-content.js';

export type RangeFault = 'read-error' | 'write-error' | 'flush-error' | 'no-space';

interface FaultyRange {
  readonly kind: RangeFault;
  readonly from: number;
  readonly to: number;
  times: number;
  readonly struck: () => void;
}

interface Change {
  /** Rises from change to change. */
  readonly order: number;
  readonly offset: number;
  /** Null: zeroes. */
  readonly bytes: Buffer | null;
  readonly length: number;
  /** The part that was done of a request that failed: nobody was told that it is there. */
  readonly isPart?: boolean;
}

const HOLE = AllocationFlag.Hole | AllocationFlag.Zero;
/** No operation has this id. */
const UNKNOWN = 0x7fff_ffff;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

export class SimDisk implements BlockDevice {
  /** As the server presents it to whoever connects now. */
  sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits = DEFAULT_LIMITS;
  /** Requests that changed something, completed or not. */
  changes = 0;
  inFlight = 0;
  /** What was done in full and not flushed when the last crash came. */
  unflushedThen: readonly { readonly offset: number; readonly length: number }[] = [];
  /** Multiplies every delay. */
  slowness = 1;
  /** A flush that failed has given up what it should have stored of this range. */
  onDropped: ((offset: number, length: number) => void) | null = null;
  /** What making something stable takes longer than a write to the cache. */
  syncMs = 0;
  readonly #clock: SimClock;
  readonly #random: SeededRandomness;
  #seen: Buffer;
  readonly #stable: Buffer;
  /** What each block is known to hold, seen and stable (block-content.ts); UNKNOWN since it was changed. */
  #seenIds: Int32Array;
  readonly #stableIds: Int32Array;
  /** Per sector: the order of the change that is stable there; older ones must not come after it. */
  readonly #stableOrder: Uint32Array;
  #order = 0;
  #unflushed: Change[] = [];
  /** Blocks that a failed flush has given up, and when: readers see what is not stable, and no flush will make it so. */
  readonly #pretended = new Map<number, number>();
  /** The same, after a crash has shown what is stable. */
  readonly #lost = new Map<number, number>();
  #faults: FaultyRange[] = [];
  #life = 0;
  #idle: (() => void)[] = [];

  /** It may `grow` up to `largestBytes`. */
  constructor(
    clock: SimClock,
    random: SeededRandomness,
    sizeBytes: number,
    abilities: Partial<Abilities>,
    largestBytes = sizeBytes,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.sizeBytes = sizeBytes;
    this.abilities = {
      readOnly: false,
      flush: true,
      fua: true,
      trim: true,
      writeZeroes: true,
      fastZero: true,
      cache: false,
      multiConn: true,
      contexts: ['base:allocation'],
      ...abilities,
    };
    this.#seen = Buffer.alloc(largestBytes);
    this.#stable = Buffer.alloc(largestBytes);
    this.#seenIds = new Int32Array(largestBytes / BLOCK_BYTES);
    this.#stableIds = new Int32Array(largestBytes / BLOCK_BYTES);
    this.#stableOrder = new Uint32Array(largestBytes / SECTOR_BYTES);
  }

  /** What readers see; not to be written to. */
  get bytes(): Buffer {
    return this.#seen;
  }

  /** The ids of all blocks as readers see them, or as a power cut now would leave them at least; `identify` is asked for changed ones. */
  ids(stable: boolean, identify: (bytes: Buffer, at: number, block: number) => number): Int32Array {
    const ids = stable ? this.#stableIds : this.#seenIds;
    const bytes = stable ? this.#stable : this.#seen;
    for (let block = ids.indexOf(UNKNOWN); block >= 0; block = ids.indexOf(UNKNOWN, block + 1)) {
      ids[block] = identify(bytes, block * BLOCK_BYTES, block);
    }
    return ids.slice();
  }

  /** Content from before the run. */
  preset(offset: number, bytes: Buffer): void {
    bytes.copy(this.#seen, offset);
    bytes.copy(this.#stable, offset);
    forget(this.#seenIds, offset, bytes.length);
    forget(this.#stableIds, offset, bytes.length);
  }

  /** Requests that touch the range fail, so many of them; each is told. */
  fail(kind: RangeFault, from: number, to: number, times: number, struck: () => void): void {
    this.#faults.push({ kind, from, to, times, struck });
  }

  heal(): void {
    this.#faults = [];
    this.slowness = 1;
  }

  /** When a failed flush has given up what readers see there, or saw until a crash, and it was not written since; null: none has. */
  droppedSinceMs(block: number): number | null {
    return this.#pretended.get(block) ?? this.#lost.get(block) ?? null;
  }

  /** Blocks that a failed flush has given up, and a crash has shown as they were before. */
  lostBlocks(): Iterable<number> {
    return this.#lost.keys();
  }

  /** A power cut now may leave something else there than what readers see. */
  isUnflushed(block: number): boolean {
    const [from, to] = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES];
    return this.#unflushed.some(({ offset, length }) => offset < to && from < offset + length);
  }

  /** Some request may fail yet. */
  get isFaulty(): boolean {
    return this.#faults.some(({ times }) => times > 0);
  }

  /** True while a read of the range would fail. */
  isUnreadable(from: number, to: number): boolean {
    return this.#faults.some((fault) => fault.kind === 'read-error' && fault.from < to && from < fault.to);
  }

  /** Power is gone, or with `keep` the server's process alone; returns true when anything unflushed may have been lost. */
  crash(fate: CrashFate): boolean {
    this.#life += 1;
    this.inFlight = 0;
    this.#wakeIdle();
    this.unflushedThen = this.#unflushed.filter(({ isPart }) => isPart !== true);
    // The cache of a server that was killed alone outlives it.
    if (fate === 'keep') return false;
    const lost = this.#unflushed.length > 0;
    for (const change of this.#unflushed) this.#survive(change, fate);
    this.#unflushed = [];
    this.#seen = Buffer.from(this.#stable);
    this.#seenIds = this.#stableIds.slice();
    for (const [block, sinceMs] of this.#pretended) this.#lost.set(block, sinceMs);
    this.#pretended.clear();
    return lost;
  }

  /** Resolves when no request of a connection before is still being worked on. */
  async whenIdle(): Promise<void> {
    if (this.inFlight === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  submit(request: BlockRequest): void {
    const life = this.#life;
    this.inFlight += 1;
    const isSync = request.command === Command.Flush || (request.flags & CommandFlag.Fua) !== 0;
    const delayMs = this.slowness * (0.02 + this.#random.fraction() ** 6 * 8) + (isSync ? this.syncMs : 0);
    const covered = this.#order;
    const isRead = request.command === Command.Read || request.command === Command.BlockStatus;
    if (isRead) {
      this.#clock.after(delayMs / 2, () => {
        if (life !== this.#life) return;
        const error = this.#read(request);
        this.#clock.after(delayMs / 2, () => this.#complete(request, error, life));
      });
      return;
    }
    this.#clock.after(delayMs, () => {
      if (life !== this.#life) return;
      this.#complete(request, this.#change(request, covered), life);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #complete(request: BlockRequest, error: number, life: number): void {
    if (life !== this.#life) return;
    this.inFlight -= 1;
    if (this.inFlight === 0) this.#wakeIdle();
    request.complete(error);
  }

  #wakeIdle(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const wake of idle) wake();
  }

  #struck(kinds: readonly RangeFault[], offset: number, length: number): RangeFault | null {
    const end = kinds.includes('flush-error') ? Infinity : offset + length;
    const fault = this.#faults.find(
      ({ kind, from, to, times }) => kinds.includes(kind) && times > 0 && from < end && offset < to,
    );
    if (fault === undefined) return null;
    fault.times -= 1;
    fault.struck();
    return fault.kind;
  }

  #read(request: BlockRequest): number {
    const { offset, length } = request;
    if (request.command === Command.BlockStatus) {
      request.extents = request.contexts.map(() => ({ runs: this.#runs(offset, length) }));
      return NbdError.Ok;
    }
    if (this.#struck(['read-error'], offset, length) !== null) return NbdError.Eio;
    const bytes = Buffer.allocUnsafeSlow(length);
    this.#seen.copy(bytes, 0, offset, offset + length);
    request.data.push(bytes);
    return NbdError.Ok;
  }

  #change(request: BlockRequest, covered: number): number {
    const { command, offset, length } = request;
    if (command === Command.Flush) {
      if (this.#struck(['flush-error'], 0, 1) !== null) {
        // As a disk that has lost its cache: nobody knows what of it is stored, and readers see it all the same.
        for (const change of this.#covered(covered)) {
          this.#survive(change, 'mixed');
          this.onDropped?.(change.offset, change.length);
          for (let at = 0; at < change.length; at += BLOCK_BYTES)
            this.#pretended.set((change.offset + at) / BLOCK_BYTES, this.#clock.monotonicMs());
        }
        return NbdError.Eio;
      }
      for (const change of this.#covered(covered)) this.#store(change);
      return NbdError.Ok;
    }
    if (command === Command.Cache) return NbdError.Ok;
    if (command === Command.Trim && this.#random.chance(0.3)) return NbdError.Ok;
    this.changes += 1;
    const bytes = command === Command.Write ? Buffer.concat(request.data) : null;
    const fault = this.#struck(['write-error', 'no-space'], offset, length);
    if (fault !== null) {
      const part = SECTOR_BYTES * this.#random.below(length / SECTOR_BYTES);
      if (part > 0)
        this.#write(
          { order: ++this.#order, offset, length: part, bytes: bytes?.subarray(0, part) ?? null, isPart: true },
          false,
        );
      return fault === 'no-space' ? NbdError.Enospc : NbdError.Eio;
    }
    const change = { order: ++this.#order, offset, length, bytes };
    const isStored = (request.flags & CommandFlag.Fua) !== 0;
    this.#write(change, isStored);
    if (isStored) this.#store(change);
    return NbdError.Ok;
  }

  #write(change: Change, isStored: boolean): void {
    apply(this.#seen, change);
    forget(this.#seenIds, change.offset, change.length);
    for (let at = 0; at < change.length && this.#pretended.size + this.#lost.size > 0; at += BLOCK_BYTES) {
      this.#pretended.delete((change.offset + at) / BLOCK_BYTES);
      this.#lost.delete((change.offset + at) / BLOCK_BYTES);
    }
    if (!isStored) this.#unflushed.push(change);
  }

  /** Takes what had changed before a flush was submitted. */
  #covered(order: number): Change[] {
    const first = this.#unflushed.findIndex((change) => change.order > order);
    return this.#unflushed.splice(0, first < 0 ? this.#unflushed.length : first);
  }

  /** Makes it stable, where nothing newer is. */
  #store({ order, offset, bytes, length }: Change): void {
    forget(this.#stableIds, offset, length);
    for (let at = 0; at < length; at += SECTOR_BYTES) {
      const sector = (offset + at) / SECTOR_BYTES;
      if ((this.#stableOrder[sector] ?? 0) > order) continue;
      this.#stableOrder[sector] = order;
      if (bytes === null) this.#stable.fill(0, offset + at, offset + at + SECTOR_BYTES);
      else bytes.copy(this.#stable, offset + at, at, at + SECTOR_BYTES);
    }
  }

  #survive(change: Change, fate: CrashFate): void {
    const random = this.#random;
    const drawn = fate === 'mixed' ? (['keep', 'lose', 'tear'] as const)[random.below(3)] : fate;
    if (drawn === 'keep') this.#store(change);
    if (drawn === 'lose') return;
    for (let at = 0; at < change.length && drawn !== 'keep'; at += SECTOR_BYTES) {
      if (random.chance()) continue;
      const bytes = change.bytes?.subarray(at, at + SECTOR_BYTES) ?? null;
      this.#store({ order: change.order, offset: change.offset + at, length: SECTOR_BYTES, bytes });
    }
  }

  /** Block status as runs of length and flags: a block is a hole when all of it is zeroes. */
  #runs(offset: number, length: number): number[] {
    const runs: number[] = [];
    const end = offset + length;
    for (let at = offset; at < end;) {
      let block = Math.floor(at / BLOCK_BYTES);
      const isHole = this.#isZero(block);
      do block += 1;
      while (block * BLOCK_BYTES < end && this.#isZero(block) === isHole);
      const to = Math.min(end, block * BLOCK_BYTES);
      runs.push(to - at, isHole ? HOLE : 0);
      at = to;
    }
    return runs;
  }

  #isZero(block: number): boolean {
    const id = this.#seenIds[block] ?? 0;
    if (id !== UNKNOWN) return id === 0;
    const at = block * BLOCK_BYTES;
    return this.#seen.compare(ZERO_BLOCK, 0, BLOCK_BYTES, at, at + BLOCK_BYTES) === 0;
  }
}

function forget(ids: Int32Array, offset: number, length: number): void {
  if (length > 0) ids.fill(UNKNOWN, Math.floor(offset / BLOCK_BYTES), Math.ceil((offset + length) / BLOCK_BYTES));
}

function apply(target: Buffer, { offset, bytes, length }: Omit<Change, 'order'>): void {
  if (bytes === null) target.fill(0, offset, offset + length);
  else bytes.copy(target, offset);
}
