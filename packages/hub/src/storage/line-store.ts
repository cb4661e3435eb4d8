/**
 * The main line of a group on its disk: journal, layers, base images and applier put together. How a restart finds
 * them again is in line-opening.ts.
 *
 * Always holds:
 *  - two states of the line: `appended`, which records are judged by, and the timeline's, of what is durable;
 *  - what the timeline holds was synced first; what the base images hold was in the timeline first.
 * Must not know: owners, other lines, views, branches.
 */
import { asError, ProtocolFault, StorageFault } from '@rephub/platform';
import {
  Compression,
  encodeBody,
  frameBytes,
  type FrameHeader,
  FrameType,
  type HashRegion,
  type Line,
  rawPayload,
  type RegionHashes,
} from '@rephub/protocol';
import { Applier } from './applier/applier.js';
import type { AppliedFile } from './base/applied-file.js';
import type { BaseSet } from './base/base-set.js';
import { NumberWaits } from './compare/number-waits.js';
import { RegionHasher } from './compare/region-hasher.js';
import { JournalReader } from './journal/journal-reader.js';
import { JournalWriter } from './journal/journal-writer.js';
import type { PackedRecords } from './journal/packed-records.js';
import type { SegmentSet } from './journal/segments.js';
import { PendingRecord, PendingRecords } from './layers/pending-records.js';
import type { Timeline } from './layers/timeline.js';
import { expectedBytes, type LineFiles, openLineFiles, payloadPlace, volumeName } from './line-opening.js';
import type { LineStoreOptions } from './line-options.js';
import { type LineState, lineStart } from './line-state.js';
import type { SlotFile } from './slot-file.js';
import { SpanRoom } from './span-room.js';

/** How often the last durable number is written down; it only has to be a lower bound. */
const HINT_EVERY_MS = 1000;

export class LineStore {
  readonly line: Line;
  readonly appended: LineState;
  readonly timeline: Timeline;
  readonly base: BaseSet;
  readonly journal: JournalReader;
  readonly writer: JournalWriter;
  readonly segments: SegmentSet;
  readonly applier: Applier;
  readonly spanRoom: SpanRoom;
  readonly #options: LineStoreOptions;
  readonly #appliedFile: AppliedFile;
  readonly #hint: SlotFile;
  readonly #packed: PackedRecords;
  readonly #pending = new PendingRecords();
  readonly #waits = new NumberWaits();
  readonly #hasher: RegionHasher;
  readonly #record = new PendingRecord();
  /** Names that came with VolumeAdded records which are not durable yet. */
  readonly #names = new Map<number, string>();
  #hintAtMs = 0;
  #hintFails = false;
  /** A span has begun since this was opened. */
  #spanBegan = false;
  #hinting: Promise<void> | null = null;

  private constructor(options: LineStoreOptions, found: LineFiles) {
    const { platform, events, line } = options;
    const { timeline, journal } = found;
    this.#options = options;
    this.line = line;
    this.timeline = timeline;
    this.base = found.base;
    this.#appliedFile = found.appliedFile;
    this.#hint = found.hint;
    this.segments = journal.segments;
    this.journal = new JournalReader(journal.segments, found.packed, options.codecs);
    this.#packed = found.packed;
    this.appended = timeline.state.copy(line);
    this.spanRoom = new SpanRoom(options.room, platform.clock, options.log);
    this.writer = new JournalWriter(
      {
        clock: platform.clock,
        files: platform.files,
        segments: journal.segments,
        segmentBytes: options.segmentBytes,
        queueBytes: options.queueBytes,
        queues: options.memory.queues,
        mayGrow: async (bytes) => {
          await options.room.look();
          options.room.checkJournalGrowth(bytes);
        },
        events: {
          written: () => {
            options.room.wrote();
            events.progressed();
          },
          durable: (number) => {
            this.#becameDurable(number);
          },
          congested: events.congested,
          waits: (fault) => {
            events.waits(fault);
            this.lookedAtRoom();
          },
          failed: events.failed,
          segmentInfo: (base, previousEnd) => ({
            group: options.group,
            hubId: options.hubId,
            line,
            base,
            previousEnd,
            before: this.appended.point(),
          }),
        },
      },
      { position: journal.position, number: timeline.state.number, nextBase: journal.nextBase },
    );
    this.applier = new Applier({
      clock: platform.clock,
      log: options.log,
      limits: options.limits,
      timeline,
      indexes: options.memory.indexes,
      segments: journal.segments,
      journal: this.journal,
      base: found.base,
      appliedFile: found.appliedFile,
      applied: found.applied,
      isDiskFull: () => this.writer.full,
      wantsRoom: () => this.spanRoom.wanted,
      freeBytes: () => options.room.freeBytes,
      lookAtRoom: () => void options.room.look(),
      isQuiet: options.isQuiet,
      failed: events.failed,
      freed: () => {
        options.room.wrote();
        this.#packed.dropBelow(this.segments.list[0]?.base ?? 0);
        this.writer.retryNow();
      },
    });
    this.#hasher = new RegionHasher({
      timeline,
      journal: this.journal,
      base: found.base,
      log: options.log,
      released: () => {
        this.applier.poke();
      },
    });
    this.applier.poke();
  }

  /** Opens the line and recovers it; makes it when it is new. Throws a CorruptionFault when the base images cannot be believed. */
  static async open(options: LineStoreOptions): Promise<LineStore> {
    return new LineStore(options, await openLineFiles(options));
  }

  get damage(): string | null {
    return this.appended.damage ?? this.applier.imagesChanged;
  }

  /**
   * The last record, as an agent is told: the line's first one while the images are not to be believed, so that it compares everything. Once its
   * span for that is open, what there really is: a link that is cut must not begin it again.
   */
  get offeredNumber(): number {
    // Not the line's start itself: a stream that begins there would not follow the records that are held.
    return this.#offersNothing ? Math.min(lineStart(this.line).number + 1, this.appended.number) : this.appended.number;
  }

  get #offersNothing(): boolean {
    return this.applier.imagesChanged !== null && !(this.appended.spanOpen && this.#spanBegan);
  }

  /** All must be compared, and no span that does it is known to be under way. */
  get wantsComparison(): boolean {
    return this.appended.damage !== null || this.#offersNothing;
  }

  /** Checks and queues a record; throws as GroupStore.append does. */
  append(header: FrameHeader, raw: readonly Buffer[]): void {
    if (this.writer.fault !== null) throw this.writer.fault;
    if (this.writer.queuedBytes > 2 * this.#options.queueBytes) {
      throw new StorageFault(
        'queue-full',
        `${this.writer.queuedBytes} bytes wait to be written: the sender was told to stop`,
      );
    }
    const { appended } = this;
    appended.check(header);
    let name: string | null = null;
    if (header.type === FrameType.VolumeAdded) {
      name = volumeName(header, raw);
      appended.checkName(header.number, name);
    }
    if (header.type === FrameType.SpanBegin) this.#admitSpan(header, raw);
    // What is called durable can be read: nothing is taken that does not come out as the header says.
    if (header.compression !== Compression.none) rawPayload(header, raw, this.#options.codecs);
    const bytes = frameBytes(header);
    const position = this.writer.append(raw, bytes, header.number);
    if (name !== null) this.#names.set(header.number, name);
    this.#pending.push(header, payloadPlace(header, position, this.#packed), position + bytes);
    appended.advance(header, name);
    if (header.type === FrameType.SpanBegin) this.#spanBegan = true;
    if (header.type === FrameType.SpanEnd) this.spanRoom.ended();
  }

  #admitSpan(header: FrameHeader, raw: readonly Buffer[]): void {
    try {
      this.spanRoom.admit(expectedBytes(header, raw), this.timeline.shown(this.appended.consistentNumber) !== null);
    } catch (error) {
      // History that may go makes room for the next try.
      this.applier.poke();
      throw error;
    }
  }

  /** A resync cannot begin or go on for want of room beside the last good point. */
  get isShortOfRoom(): boolean {
    const { appended, spanRoom } = this;
    return spanRoom.short !== null || ((appended.spanOpen || spanRoom.isEnding) && this.#isTight);
  }

  get #isTight(): boolean {
    return this.spanRoom.mustDrop || this.writer.full || this.#options.room.isLow;
  }

  /** The room on the disk has changed, or may have: looks whether there is something to do about it. */
  lookedAtRoom(): void {
    this.#dropLastGoodIfDue();
    this.applier.poke();
  }

  /** The operator's word: the span that is open, or the next one, may be applied before its end if it has no room otherwise. */
  allowDropLastGood(whenShort: 'now' | 'later'): void {
    this.spanRoom.allowDrop(whenShort);
    this.#dropLastGoodIfDue();
  }

  #dropLastGoodIfDue(): void {
    if (!this.#mayDropLastGood || !this.#isTight) return;
    this.applier.dropLastGood({
      isAllowed: () => this.#mayDropLastGood,
      dropped: () => {
        // Where its end has come, that is the next point.
        if (!this.spanRoom.isEnding) this.appended.dropConsistent();
        this.#options.events.progressed();
      },
    });
  }

  /** There is one, and a span beside it of which something may be folded, for which the operator has given the word. */
  get #mayDropLastGood(): boolean {
    const { spanRoom, timeline } = this;
    return timeline.lastGood !== null && timeline.state.spanOpen && spanRoom.mayDrop;
  }

  /** As GroupStore.hashRegion. */
  async hashRegion(request: HashRegion, signal: AbortSignal): Promise<RegionHashes> {
    const { number } = request;
    const now = this.timeline.state.number;
    if (now > number) {
      throw new ProtocolFault('hash-number', `digests at number ${number} were asked for, the line is at ${now}`);
    }
    if (now === number) return await this.#hasher.hash(request);
    return await new Promise<RegionHashes>((resolve, reject) => {
      const cancel = this.#waits.add(number, () => {
        resolve(this.#hasher.hash(request));
      });
      signal.addEventListener(
        'abort',
        () => {
          cancel();
          reject(new StorageFault('hash-cancelled', 'nobody waits for these digests any more'));
        },
        { once: true },
      );
    });
  }

  /** Syncs what was appended, stops the applier and closes all files. Pins must be gone. */
  async close(): Promise<void> {
    await this.writer.settled();
    await this.applier.stop();
    // Whoever asked may be gone, its reads are not.
    await this.#hasher.idle();
    await this.#hinting;
    try {
      await this.writer.close();
      if (this.writer.fault === null) await this.#writeHint();
    } finally {
      await this.segments.close();
      await this.base.close();
      await this.#hint.close();
      await this.#appliedFile.close();
    }
  }

  #becameDurable(number: number): void {
    while (this.#waits.lowest <= number) {
      const { lowest } = this.#waits;
      this.#takeThrough(lowest);
      this.#waits.reached(lowest);
    }
    this.#takeThrough(number);
    this.#dropLastGoodIfDue();
    this.#options.events.progressed();
    this.applier.poke();
    const nowMs = this.#options.platform.clock.monotonicMs();
    if (this.#hinting === null && nowMs - this.#hintAtMs >= HINT_EVERY_MS) {
      this.#hintAtMs = nowMs;
      this.#hinting = this.#writeHint().finally(() => {
        this.#hinting = null;
      });
    }
  }

  /** Records up to this number, which are durable, become visible to look-ups. */
  #takeThrough(number: number): void {
    const record = this.#record;
    while (this.#pending.shift(number, record)) {
      let name: string | null = null;
      if (record.type === FrameType.VolumeAdded) {
        name = this.#names.get(record.number) ?? null;
        this.#names.delete(record.number);
      }
      this.timeline.take(record, name);
      if (record.type === FrameType.SpanEnd) this.spanRoom.endIsDurable();
    }
  }

  async #writeHint(): Promise<void> {
    try {
      await this.#hint.write(encodeBody({ version: 1, line: this.line.id, number: this.timeline.state.number }));
      this.#hintFails = false;
    } catch (error) {
      if (this.#hintFails) return;
      this.#hintFails = true;
      // Only a lower bound is lost; what counts is in the journal.
      this.#options.log.warn('durable-hint-failed', { line: this.line.id, message: asError(error).message });
    }
  }
}
