/**
 * Appends frames to a line's journal: what was queued in one turn, or while the last write was under way, goes out in
 * one write; one sync is under way at a time and covers all that was written before it began; the next write overlaps it.
 *
 * Always holds:
 *  - bytes are written in order of position, and reported `written` and `durable` in order;
 *  - a segment exists, named and with a synced header, before a frame in it is written, and only after everything
 *    in the segment before it was synced: that a next segment exists proves this one whole;
 *  - a sync that failed, or a write that failed for another reason than want of room, ends the journal: nothing of it is tried again;
 *  - for want of room the same bytes are written again at the same position, until there is room; what makes or opens a segment,
 *    before anything that counts is in it, is done again until there is a file handle, or whatever else it lacks.
 * Must not know: what frames say, sessions, indexes.
 */
import { asError, type Fault, type FileSystem, type OpenFile, StorageFault } from '@rephub/platform';
import type { JournalEnd, JournalEvents, JournalWriterOptions } from './journal-writer-options.js';
import { encodeSegmentHeader, type SegmentInfo } from './segment-header.js';
import { QueuedBytes } from './queued-bytes.js';
import { Segment, segmentName, type SegmentSet, type Spare } from './segments.js';
import type { MemoryShare } from '../shared-memory.js';
import { isWantOfFile, isWantOfRoom } from '../passing-faults.js';
import { UntilPassed } from './until-passed.js';

/** One write takes about this much at most: the sync after it can begin, and memory is let go, early. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** Room is taken ahead in steps that double from here: an idle group takes little, a busy one few steps. */
const FIRST_ALLOCATION_BYTES = 1024 * 1024;
/** Bytes that were written and are not synced, at most so many times the queue. */
const UNSYNCED_QUEUES = 8;

/** Bytes for one write, all in one segment. */
interface Part {
  /** The segment that begins with this part; null when it belongs to the one before. */
  readonly begins: { readonly info: SegmentInfo; readonly header: Buffer } | null;
  readonly position: number;
  readonly content: QueuedBytes;
  bytes: number;
  lastNumber: number;
}

export class JournalWriter {
  readonly #files: FileSystem;
  readonly #segments: SegmentSet;
  readonly #segmentBytes: number;
  readonly #queueBytes: number;
  readonly #events: JournalEvents;
  readonly #mayGrow: JournalWriterOptions['mayGrow'];
  readonly #syncsWhenAsked: boolean;
  readonly #waits: UntilPassed;
  readonly #parts: Part[] = [];
  #tail: Part | null = null;
  /** Position of the next byte to be queued, and where its segment began; base is null when a segment must begin. */
  #position: number;
  #base: number | null;
  /** Where the first frame of that segment is. */
  #firstFrame: number;
  #nextBase: number | null;
  #queuedBytes = 0;
  readonly #share: MemoryShare | null;
  #congested = false;
  #scheduled = false;
  #pumping: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  #stopped = false;
  #fault: Fault | null = null;
  #segment: Segment | null = null;
  #file: OpenFile | null = null;
  #nextFile: Spare | null = null;
  #allocated = 0;
  #queuedNumber: number;
  #writtenNumber: number;
  #durableNumber: number;
  /** Somebody waits for what is written up to here to be synced. */
  #askedNumber = 0;
  #writtenPosition: number;
  #durablePosition: number;
  #waiters: { readonly number: number; readonly resolve: () => void }[] = [];

  constructor(options: JournalWriterOptions, end: JournalEnd) {
    this.#files = options.files;
    this.#segments = options.segments;
    this.#segmentBytes = options.segmentBytes;
    this.#queueBytes = options.queueBytes;
    this.#share =
      options.queues?.open(() => {
        // Other groups are told in the same turn.
        try {
          this.#judge();
        } catch (error) {
          this.#fail(error);
        }
      }) ?? null;
    this.#events = options.events;
    this.#mayGrow = options.mayGrow;
    this.#syncsWhenAsked = options.syncsWhenAsked ?? false;
    this.#waits = new UntilPassed(options.clock, {
      waits: async (fault) => {
        if (isWantOfRoom(fault)) await this.#segments.freeSpares();
        else this.#segments.keepSpares();
        this.#events.waits(fault);
        this.#wake();
      },
      goesOn: () => {
        this.#segments.keepSpares();
        this.#events.waits(null);
      },
      isOver: () => this.#fault !== null || this.#stopped,
    });
    this.#position = end.position;
    this.#nextBase = end.nextBase;
    this.#queuedNumber = end.number;
    this.#writtenNumber = end.number;
    this.#durableNumber = end.number;
    this.#writtenPosition = end.position;
    this.#durablePosition = end.position;
    const last = end.nextBase === null ? options.segments.last : null;
    this.#base = last?.base ?? null;
    this.#firstFrame = last === null ? -1 : last.base + last.headerBytes;
    this.#segment = last;
    this.#allocated = last?.sizeBytes ?? 0;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get congested(): boolean {
    return this.#congested;
  }

  get writtenNumber(): number {
    return this.#writtenNumber;
  }

  get durableNumber(): number {
    return this.#durableNumber;
  }

  get fault(): Fault | null {
    return this.#fault;
  }

  /** What it waits for to pass; null while it does not wait. */
  get waitsFor(): Fault | null {
    return this.#waits.waitsFor;
  }

  /** It waits for room. */
  get full(): boolean {
    return isWantOfRoom(this.#waits.waitsFor);
  }

  /** Position of the next frame, if it does not begin a segment. */
  get position(): number {
    return this.#position;
  }

  /**
   * Queues a frame. Slices of counted memory are held until they are written, others are copied. Returns the position
   * of its first byte. Throws the StorageFault that ended the journal.
   */
  append(slices: readonly Buffer[], bytes: number, number: number): number {
    if (this.#fault !== null) throw this.#fault;
    if (this.#base === null || this.#position - this.#base + bytes > this.#segmentBytes) this.#rollIfWorthIt();
    let tail = this.#tail;
    if (tail === null || tail.bytes >= BATCH_BYTES) {
      tail = { begins: null, position: this.#position, content: new QueuedBytes(), bytes: 0, lastNumber: number };
      this.#parts.push(tail);
      this.#tail = tail;
    }
    for (const slice of slices) tail.content.add(slice);
    tail.bytes += bytes;
    tail.lastNumber = number;
    const at = this.#position;
    this.#position = at + bytes;
    this.#queuedNumber = number;
    this.#queuedBytes += bytes;
    this.#share?.use(this.#queuedBytes);
    this.#judge();
    if (!this.#scheduled && this.#pumping === null) {
      this.#scheduled = true;
      // At the end of this turn: all that one chunk of the stream brought goes into one write.
      queueMicrotask(this.#pumpFromQueue);
    }
    return at;
  }

  /** Resolves when all that was queued is durable, or never will be. While the journal waits it does not. */
  settled(): Promise<void> {
    if (this.#fault !== null || this.waitsFor !== null || this.#durableNumber >= this.#queuedNumber)
      return Promise.resolve();
    return this.#whenDurable(this.#queuedNumber);
  }

  /**
   * Writes and syncs what is queued (unless the journal waits or is dead) and stops; then the last segment ends
   * where its frames end.
   */
  async close(): Promise<void> {
    await this.settled();
    this.#stopped = true;
    this.#waits.retryNow();
    await this.#pumping;
    await this.#syncing;
    this.#share?.close();
    const file = this.#file;
    const segment = this.#segment;
    this.#file = null;
    if (file === null || segment === null) return;
    try {
      if (this.#fault === null && this.#parts.length === 0) {
        await file.truncate(this.#position - segment.base);
        await file.sync();
        this.#segments.grown(segment, this.#position - segment.base);
      }
    } finally {
      this.#segments.release(segment);
    }
  }

  /** A segment that holds nothing but its header takes any frame: frames may be larger than segments. */
  #rollIfWorthIt(): void {
    if (this.#position === this.#firstFrame) return;
    const base = this.#nextBase ?? this.#position;
    const info = this.#events.segmentInfo(base, this.#position);
    const header = encodeSegmentHeader(info);
    this.#nextBase = null;
    this.#base = base;
    this.#position = base + header.length;
    this.#firstFrame = this.#position;
    this.#tail = {
      begins: { info, header },
      position: this.#position,
      content: new QueuedBytes(),
      bytes: 0,
      lastNumber: this.#queuedNumber,
    };
    this.#parts.push(this.#tail);
  }

  readonly #pumpFromQueue = (): void => {
    this.#scheduled = false;
    const idle = this.#pumping === null && !this.#stopped && this.#fault === null;
    if (idle && this.#parts.length > 0) this.#pumping = this.#pump();
  };

  async #pump(): Promise<void> {
    try {
      while (this.#fault === null && !this.#stopped) {
        const part = this.#parts[0];
        if (part === undefined) break;
        if (this.#tail === part) this.#tail = null;
        await this.#writePart(part);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#pumping = null;
      if (this.#fault !== null) this.#dropQueue();
    }
  }

  /** Nothing of it will be written any more, and nothing is being written. */
  #dropQueue(): void {
    for (const part of this.#parts) part.content.release();
    this.#parts.length = 0;
    this.#tail = null;
    this.#queuedBytes = 0;
    this.#share?.use(0);
  }

  async #writePart(part: Part): Promise<void> {
    if (part.begins !== null) {
      const { info, header } = part.begins;
      // Whatever lies before a segment is durable before the segment's name exists.
      if (this.#writtenNumber > this.#durableNumber) await this.#whenDurable(this.#writtenNumber);
      if (this.#fault !== null) return;
      if (!(await this.#waits.run(() => this.#beginSegment(info, header), isWantOfFile))) return;
    }
    if (this.#file === null && !(await this.#waits.run(() => this.#openSegment(), isWantOfFile))) return;
    const file = this.#file;
    const segment = this.#segment;
    if (file === null || segment === null) throw new Error('assertion failed: a part has a segment');
    const at = part.position - segment.base;
    const wrote = await this.#waits.run(async () => {
      await this.#takeRoom(file, segment, at + part.bytes);
      await file.write(part.content.slices(), at);
    });
    if (!wrote) return;
    this.#parts.shift();
    part.content.release();
    this.#queuedBytes -= part.bytes;
    this.#share?.use(this.#queuedBytes);
    this.#writtenNumber = part.lastNumber;
    this.#writtenPosition = part.position + part.bytes;
    this.#events.written(part.lastNumber);
    this.#relieve();
    this.#syncDue();
  }

  /** Frames up to this number are to be durable soon. Of use with `syncsWhenAsked` only. */
  syncThrough(number: number): void {
    this.#askedNumber = Math.max(this.#askedNumber, number);
    this.#syncDue();
  }

  #syncDue(): void {
    if (this.#file !== null && this.#mustSync()) this.#syncing ??= this.#sync(this.#file);
  }

  #mustSync(): boolean {
    if (this.#durableNumber >= this.#writtenNumber || this.#fault !== null) return false;
    return !this.#syncsWhenAsked || this.#congested || this.#askedNumber > this.#durableNumber;
  }

  async #sync(file: OpenFile): Promise<void> {
    try {
      while (this.#mustSync()) {
        const target = this.#writtenNumber;
        const targetPosition = this.#writtenPosition;
        await file.sync();
        this.#durableNumber = target;
        this.#durablePosition = targetPosition;
        this.#events.durable(target);
        this.#relieve();
        this.#wake();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#syncing = null;
    }
  }

  /** Too much waits to be written, or was written and waits to be synced (memory and the page cache are not without end). */
  #isAbove(share: number): boolean {
    const unsynced = this.#position - this.#durablePosition;
    const queueBytes = Math.min(this.#queueBytes, this.#share?.limitBytes ?? Infinity);
    if (this.#queuedBytes > queueBytes * share || this.#share?.isExhausted === true) return true;
    return unsynced > UNSYNCED_QUEUES * this.#queueBytes * share;
  }

  #judge(): void {
    if (this.#congested) {
      this.#relieve();
    } else if (this.#isAbove(1)) {
      this.#congested = true;
      this.#events.congested(true);
    }
  }

  #relieve(): void {
    if (!this.#congested || this.#isAbove(0.5)) return;
    this.#congested = false;
    this.#events.congested(false);
  }

  async #beginSegment(info: SegmentInfo, header: Buffer): Promise<void> {
    const previous = this.#segment;
    // The same file again where the one before got no further.
    this.#nextFile ??= this.#segments.takeSpare() ?? { path: this.#segments.newSparePath(), sizeBytes: 0 };
    const spare = this.#nextFile;
    const path = `${this.#segments.directory}/${segmentName(info.base)}`;
    const file = await this.#files.open(spare.path, 'create');
    try {
      await file.write([header], 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await this.#files.rename(spare.path, path);
    this.#nextFile = null;
    await this.#files.syncDirectory(this.#segments.directory);
    if (previous !== null) {
      previous.end = info.previousEnd;
      if (this.#file !== null) this.#segments.release(previous);
    }
    this.#file = null;
    const segment = new Segment(path, info, header.length, Math.max(spare.sizeBytes, header.length));
    this.#segments.add(segment);
    this.#segment = segment;
    this.#allocated = segment.sizeBytes;
  }

  async #openSegment(): Promise<void> {
    const segment = this.#segment;
    if (segment === null) return;
    try {
      this.#file = await this.#segments.acquire(segment);
    } catch (error) {
      this.#segments.release(segment);
      throw error;
    }
  }

  /** Takes room ahead of the writing, so that syncing seldom has to commit a new size or new blocks. */
  async #takeRoom(file: OpenFile, segment: Segment, endBytes: number): Promise<void> {
    if (endBytes <= this.#allocated) return;
    const step = Math.max(FIRST_ALLOCATION_BYTES, this.#allocated);
    const target = Math.max(endBytes, Math.min(this.#segmentBytes, this.#allocated + step));
    await this.#mayGrow?.(endBytes - this.#allocated);
    try {
      await this.#mayGrow?.(target - this.#allocated);
      await file.allocate(this.#allocated, target - this.#allocated);
      this.#allocated = target;
      this.#segments.grown(segment, target);
    } catch (error) {
      // There may be room for what is to be written, if not for more.
      if (!isWantOfRoom(error)) throw error;
    }
  }

  /** There may be room now: do not wait for the next try. */
  retryNow(): void {
    this.#waits.retryNow();
  }

  #fail(error: unknown): void {
    if (this.#fault !== null) return;
    const cause = asError(error);
    this.#fault = new StorageFault(
      'journal-failed',
      `journal in ${this.#segments.directory} failed: ${cause.message}`,
      { cause },
    );
    this.#wake();
    if (this.#pumping === null) this.#dropQueue();
    this.#events.failed(this.#fault);
  }

  #whenDurable(number: number): Promise<void> {
    this.syncThrough(number);
    return new Promise((resolve) => {
      this.#waiters.push({ number, resolve });
    });
  }

  #wake(): void {
    if (this.#waiters.length === 0) return;
    const all = this.#waiters;
    const forget = this.#fault !== null;
    this.#waiters = [];
    for (const waiter of all) {
      if (forget || waiter.number <= this.#durableNumber || this.waitsFor !== null) waiter.resolve();
      else this.#waiters.push(waiter);
    }
  }
}
