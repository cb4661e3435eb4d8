/**
 * The copier: in a span, reads what is dirty from upstream and makes records of it, until nothing is
 * dirty; then the span ends. A few ranges are copied at once; each is read under the range lock and numbered
 * before the lock is released, so a record says what upstream held at that number.
 *
 * Holes are asked for, not read; zeroes that were read cost no payload; where the marks say little, the hub is asked what
 * it holds, and what is the same is not sent. It reads when its turn comes (background-reads.ts), which is how it yields to guests.
 *
 * Must not know: the link, the hub, why something is dirty.
 */
import { type Tracker } from '@rephub/bitmap';
import { DeviceError, readSlices } from '@rephub/nbd';
import { type Clock, type Logger, releaseBytes, sleep } from '@rephub/platform';
import { FrameType } from '@rephub/protocol';
import { type BackgroundReads } from './background-reads.js';
import { ByteBudget } from './byte-budget.js';
import { compareBlocks } from './compare.js';
import { type Comparer, type Comparison } from './comparer.js';
import { type ContentPiece, type PieceKind, piecesOf, withoutRanges } from './content-pieces.js';
import { type FlushProof } from '../flushes/flush-proof.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { holeAt, HoleFinder } from './hole-at.js';
import { markedHoles, stillMarkedBytes } from './marked-holes.js';
import { type Mirror } from '../mirror/mirror.js';
import { type Pace } from './pace.js';
import { withRange } from '../range-lock.js';
import { RateMeter } from './rate-meter.js';
import { sliceRange } from './zero-runs.js';

const COPY_BYTES = 1024 * 1024;
/**
 * Ranges copied at once when the guest is idle: many small ones, or as many large ones as make so many bytes, few enough to
 * stay in the processor's caches from the upstream's socket to the hub's.
 */
const IDLE_LANES = 16;
const IDLE_BYTES = 2 * COPY_BYTES;
/** Ranges that are asked about, or copied, at once while copies are compared first: answers take a round trip. */
const COMPARING_LANES = 16;
const COMPARING_BYTES = COMPARING_LANES * COPY_BYTES;
/** A hole longer than this is recorded in steps, so that the range lock is never held for long. */
const HOLE_STEP_BYTES = 64 * 1024 * 1024 * 1024;
const ROOM_POLL_MS = 5;
/** An answer that is void when it is to be used is asked for again, so often in all; then what was read is sent. */
const MOST_ASKED = 3;
const UPSTREAM_POLL_MS = 500;
/** What could not be read as a whole is tried again in pieces of this size. */
const RESCUE_BYTES = 4096;

export interface CopyProgress {
  cause: string;
  startedMs: number;
  bytesTotal: number;
  bytesDone: number;
  bytesSent: number;
  /** Of what is done: looked at by checksum, sent or not. */
  bytesCompared: number;
  /** Of what is done: holes, neither read nor compared. */
  holeBytesDone: number;
  /** The same of all that is to be done; null while upstream is being asked. */
  holeBytesTotal: number | null;
  /** Of what is done and no hole. */
  readonly meter: RateMeter;
}

export interface CopierParts {
  readonly clock: Clock;
  readonly volumes: readonly GuestVolume[];
  readonly tracker: Tracker;
  readonly proof: FlushProof;
  readonly mirror: Mirror;
  readonly log: Logger;
  /** Bytes per bit of the dirty bitmap: what is taken begins and ends at a multiple of it. */
  readonly granularityBytes: number;
  /** What is read is read at this pace. */
  readonly pace: Pace;
  /** When it is read, and how much at once, is decided there. */
  readonly reads: BackgroundReads;
  readonly comparer: Comparer;
  /** Nothing is dirty and the span has been ended. */
  readonly ended: (progress: CopyProgress) => void;
  readonly unreadable: (volume: number, offset: number, length: number) => void;
}

export class Copier {
  readonly #parts: CopierParts;
  #progress: CopyProgress | null = null;
  #running: Promise<void> | null = null;
  #stopped = false;
  #estimating: Promise<void> = Promise.resolve();
  #estimates = 0;
  readonly #budget = new ByteBudget();

  constructor(parts: CopierParts) {
    this.#parts = parts;
  }

  /** Null while nothing is being copied. */
  get progress(): Readonly<CopyProgress> | null {
    return this.#progress;
  }

  /** A span has begun: copies until nothing is dirty. Harmless when it is at it already. */
  start(cause: string): void {
    if (this.#stopped) return;
    const { clock, tracker } = this.#parts;
    if (this.#progress === null) {
      this.#progress = {
        cause,
        startedMs: clock.monotonicMs(),
        bytesTotal: 0,
        bytesDone: 0,
        bytesSent: 0,
        bytesCompared: 0,
        holeBytesDone: 0,
        holeBytesTotal: null,
        meter: new RateMeter(),
      };
    }
    this.#progress.bytesTotal = this.#progress.bytesDone + tracker.dirtyBytes;
    this.#estimate(this.#progress);
    this.#running ??= this.#run()
      .then(null, (fault: unknown) => {
        // Not the disk's word, which is handled where it is read: a bug. Guest I/O goes on without us (FAIL-OPEN).
        this.#parts.mirror.fail(fault);
      })
      .finally(() => {
        this.#running = null;
        // A span that began while the last one was being wound up.
        if (!this.#stopped && this.#parts.mirror.state === 'span') this.start(cause);
      });
  }

  /** Stops at the next range; resolves when nothing is being read. What is left stays dirty. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
    await this.#estimating;
  }

  /** Beside the copying: how much of what is to be done is holes. */
  #estimate(progress: CopyProgress): void {
    const { log, tracker, volumes } = this.#parts;
    const round = ++this.#estimates;
    const isCurrent = (): boolean => this.#isActive() && this.#progress === progress && this.#estimates === round;
    progress.holeBytesTotal = null;
    this.#estimating = markedHoles(volumes, tracker, isCurrent).then(
      (holes) => {
        if (isCurrent()) progress.holeBytesTotal = progress.holeBytesDone + stillMarkedBytes(holes, tracker);
      },
      // A figure is missing, nothing else.
      (fault: unknown) => log.warn('resync-estimate-failed', { fault: String(fault) }),
    );
  }

  async #run(): Promise<void> {
    while (this.#isActive()) {
      await this.#copyAll();
      if (!this.#isActive()) break;
      if (this.#parts.tracker.anyDirty()) continue;
      this.#parts.mirror.endSpan();
      this.#parts.comparer.stop();
      const progress = this.#progress;
      this.#progress = null;
      if (progress !== null) this.#parts.ended(progress);
    }
  }

  #isActive(): boolean {
    return !this.#stopped && this.#parts.mirror.state === 'span';
  }

  /** One pass over all volumes. */
  async #copyAll(): Promise<void> {
    for (const volume of this.#parts.volumes) {
      const cursor: Cursor = { at: 0, holes: new HoleFinder(volume.reader) };
      const lanes: Promise<void>[] = [];
      const count = this.#parts.comparer.isOn ? COMPARING_LANES : IDLE_LANES;
      for (let lane = 0; lane < count; lane++) lanes.push(this.#lane(volume, cursor));
      await Promise.all(lanes);
    }
  }

  /** Copies range after range from the shared cursor on. */
  async #lane(volume: GuestVolume, cursor: Cursor): Promise<void> {
    const { comparer, tracker } = this.#parts;
    while (this.#isActive()) {
      const run = tracker.nextDirty(volume.index, cursor.at);
      if (run === null) break;
      const length = Math.min(run.length, this.#copyBytes());
      if (!this.#budget.take(length, comparer.isOn ? COMPARING_BYTES : IDLE_BYTES)) {
        await this.#budget.freed();
        continue;
      }
      await this.#copyFrom(volume, cursor, run.offset, run.length, length).finally(() => {
        this.#budget.giveBack(length);
      });
    }
    this.#budget.passOn();
  }

  /** A copy takes at most an eighth of the window, in whole blocks of the bitmap. */
  #copyBytes(): number {
    const { granularityBytes, mirror, reads } = this.#parts;
    const most = Math.min(COPY_BYTES, reads.pieceBytes, mirror.window.limitBytes / 8);
    return Math.max(granularityBytes, most - (most % granularityBytes));
  }

  /** Copies the next part of a dirty run; moves the cursor behind what it takes on. */
  async #copyFrom(
    volume: GuestVolume,
    cursor: Cursor,
    offset: number,
    runLength: number,
    partLength: number,
  ): Promise<void> {
    const { comparer, pace } = this.#parts;
    // Taken for this lane before anything is awaited, so that no other lane takes it too.
    let length = partLength;
    cursor.at = offset + length;
    const hole = this.#wholeBlocks(
      volume,
      offset,
      await cursor.holes.holeAt(offset, Math.min(runLength, HOLE_STEP_BYTES)),
    );
    // All of a longer hole, unless another lane has gone on from where this one's part ends.
    if (hole > length && cursor.at === offset + length) {
      length = hole;
      cursor.at = offset + hole;
    }
    const isHole = hole >= length;
    if (!isHole) await pace.take(length);
    for (let asked = 1, isVoid = true; isVoid; asked++) {
      const isActive = (): boolean => this.#isActive();
      const expected = isHole ? 'hole' : await comparer.ask(volume.index, offset, length, isActive);
      isVoid = await this.#copyInTurn(volume, offset, length, expected, asked < MOST_ASKED);
    }
  }

  /** True: the answer is void, and `mayAskAgain`. */
  async #copyInTurn(
    volume: GuestVolume,
    offset: number,
    length: number,
    expected: 'hole' | Comparison | null,
    mayAskAgain: boolean,
  ): Promise<boolean> {
    let isVoid = false;
    // The window may have filled until it is our turn; a turn is not spent on waiting for the hub.
    for (let isDone = false; !isDone;) {
      await this.#whenRoom(length);
      isDone = await this.#parts.reads.run(expected === 'hole' ? 0 : length, async () => {
        if (!this.#isActive()) return true;
        if (!this.#hasRoom(length)) return false;
        await withRange(volume.lock, offset, length, async () => {
          isVoid = !(await this.#copyLocked(volume, offset, length, expected, mayAskAgain));
        });
        return true;
      });
    }
    return isVoid;
  }

  /** It was a comparison, and to compare is still what is wanted. */
  #isVoid(expected: 'hole' | Comparison | null): boolean {
    const { comparer } = this.#parts;
    return expected !== null && expected !== 'hole' && comparer.isOn && !comparer.isValid(expected);
  }

  /** So many of `length` bytes that they end with a block of the bitmap, or the volume. */
  #wholeBlocks(volume: GuestVolume, offset: number, length: number): number {
    if (offset + length >= volume.sizeBytes) return volume.sizeBytes - offset;
    return length - ((offset + length) % this.#parts.granularityBytes);
  }

  /** Under the range lock: reads, numbers, and takes the marks. False: not yet, the answer is void and `mayAskAgain`. */
  async #copyLocked(
    volume: GuestVolume,
    offset: number,
    length: number,
    expected: 'hole' | Comparison | null,
    mayAskAgain: boolean,
  ): Promise<boolean> {
    const { clock, comparer, mirror, tracker } = this.#parts;
    if (mayAskAgain && this.#isVoid(expected)) return false;
    const stillHole = expected === 'hole' && (await holeAt(volume.reader, offset, length)) >= length;
    // Not a hole any more, and too long to be read at once: the marks stay for the next pass.
    if (!stillHole && length > Math.max(COPY_BYTES, this.#parts.granularityBytes)) return true;
    const found: Content | null = stillHole
      ? { slices: [], pieces: () => [{ offset, length, kind: 'zero', data: [] }], differing: null }
      : await this.#read(volume, offset, length, expected === 'hole' ? null : expected);
    const read = found === null ? null : await this.#settled(volume, offset, length, found);
    if (read === null) {
      await sleep(clock, UPSTREAM_POLL_MS);
      return true;
    }
    if (!this.#isActive()) return true;
    if (mayAskAgain && this.#isVoid(expected)) {
      releaseBytes(read.slices);
      return false;
    }
    // It ended with the volume, which has grown meanwhile: the marks stay for the next pass.
    if ((offset + length) % this.#parts.granularityBytes !== 0 && offset + length !== volume.sizeBytes) return true;
    const { differing } = read;
    const isTold = differing !== null && expected !== null && expected !== 'hole' && comparer.isValid(expected);
    const pieces = isTold ? differing : read.pieces();
    const taken = tracker.take(volume.index, offset, length);
    // What was read may still lie in upstream's cache, from before this process even: a flush after this proves it.
    const ticket = tracker.takeTicket();
    this.#parts.proof.copied(volume.index, ticket);
    // What is the same rests on all that was numbered so far: the hub has it, or the window will bring it.
    let number = mirror.lastNumber;
    for (const piece of pieces) {
      number = mirror.copied(TYPES[piece.kind], 0, volume.index, piece.offset, piece.length, piece.data);
      if (number === 0) break;
      if (piece.kind === 'unreadable') this.#parts.unreadable(volume.index, piece.offset, piece.length);
      if (this.#progress !== null && piece.kind === 'data') this.#progress.bytesSent += piece.length;
    }
    // What goes to the hub is held by the window.
    releaseBytes(read.slices);
    if (number === 0) {
      tracker.putBack(taken);
      // Never at once again: this loop must not spin while nothing changes.
      await sleep(clock, ROOM_POLL_MS);
      return true;
    }
    tracker.numbered(taken, number, ticket);
    if (this.#progress === null) return true;
    this.#progress.bytesDone += length;
    if (isTold) this.#progress.bytesCompared += length;
    if (stillHole) this.#progress.holeBytesDone += length;
    this.#progress.meter.note(clock.monotonicMs(), this.#progress.bytesDone - this.#progress.holeBytesDone);
    return true;
  }

  /** What upstream holds; null when upstream is away, which says nothing about what it holds. */
  async #read(
    volume: GuestVolume,
    offset: number,
    length: number,
    comparison: Comparison | null,
  ): Promise<Content | null> {
    try {
      const slices = await readSlices(volume.reader, offset, length);
      const differing = comparison === null ? null : this.#whatDiffers(slices, offset, length, comparison);
      return { slices, pieces: () => piecesOf(offset, slices), differing };
    } catch (fault) {
      if (!(fault instanceof DeviceError)) throw fault;
      if (!volume.upstreamIsUp()) return null;
      this.#parts.log.warn('upstream-unreadable', { volume: volume.name, offset, length, error: fault.nbdError });
    }
    const pieces = await this.#rescue(volume, offset, length);
    return pieces === null ? null : { slices: [], pieces: () => pieces, differing: null };
  }

  /** What was read, once upstream has what it shows there (doubts.ts); null when that could not be made sure of now. */
  async #settled(volume: GuestVolume, offset: number, length: number, content: Content): Promise<Content | null> {
    const { doubts } = volume;
    if (doubts.within(offset, length).length === 0) return content;
    const shown = content.pieces().filter(({ kind }) => kind !== 'unreadable');
    const failed = await doubts.settle(volume.reader, shown);
    if (doubts.bytes === 0) {
      this.#parts.log.info('written-again', { volume: volume.name, bytes: doubts.takeSettledBytes() });
    }
    if (failed?.length === 0) return content;
    if (failed === null || !volume.upstreamIsUp()) {
      releaseBytes(content.slices);
      return null;
    }
    for (const range of failed) this.#parts.log.warn('upstream-keeps-nothing', { volume: volume.name, ...range });
    return { slices: content.slices, pieces: () => withoutRanges(content.pieces(), failed), differing: null };
  }

  /** The pieces of what was read that the hub does not hold so. */
  #whatDiffers(slices: readonly Buffer[], offset: number, length: number, { answer }: Comparison): ContentPiece[] {
    const pieces: ContentPiece[] = [];
    let sameBytes = 0;
    for (const { from, to, verdict } of compareBlocks(slices, answer)) {
      if (verdict === 'same') sameBytes += to - from;
      else pieces.push(...piecesOf(offset + from, sliceRange(slices, from, to)));
    }
    this.#parts.comparer.found(sameBytes, length - sameBytes);
    return pieces;
  }

  /** Reads in small pieces what could not be read as a whole. */
  async #rescue(volume: GuestVolume, offset: number, length: number): Promise<ContentPiece[] | null> {
    const pieces: ContentPiece[] = [];
    for (let at = offset; at < offset + length; at += RESCUE_BYTES) {
      const step = Math.min(RESCUE_BYTES, offset + length - at);
      try {
        pieces.push(...piecesOf(at, await readSlices(volume.reader, at, step)));
      } catch (fault) {
        if (!(fault instanceof DeviceError)) throw fault;
        if (!volume.upstreamIsUp()) return null;
        const last = pieces.at(-1);
        if (last?.kind === 'unreadable') last.length += step;
        else pieces.push({ offset: at, length: step, kind: 'unreadable', data: [] });
      }
    }
    return pieces;
  }

  /** Waits until the window can take the copy and still leave half of itself to the guest. */
  async #whenRoom(bytes: number): Promise<void> {
    while (this.#isActive() && !this.#hasRoom(bytes)) await sleep(this.#parts.clock, ROOM_POLL_MS);
  }

  #hasRoom(bytes: number): boolean {
    const { window } = this.#parts.mirror;
    return window.count === 0 || window.bytes + Math.min(bytes, COPY_BYTES) <= window.limitBytes / 2;
  }
}

/** How far a pass over a volume has come. */
interface Cursor {
  at: number;
  readonly holes: HoleFinder;
}

/** What upstream holds of a range. */
interface Content {
  /** As it was read: held, to be released. */
  readonly slices: readonly Buffer[];
  readonly pieces: () => readonly ContentPiece[];
  /** Only what the hub does not hold so; null where that was not compared. */
  readonly differing: readonly ContentPiece[] | null;
}

const TYPES: Record<PieceKind, FrameType> = {
  data: FrameType.Write,
  zero: FrameType.Discard,
  unreadable: FrameType.Unreadable,
};
