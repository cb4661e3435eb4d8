/**
 * The main line of a group on its disk: journal, layers, base images and applier put together, and how a restart finds
 * them again.
 *
 * Always holds:
 *  - two states of the line: `appended`, which records are judged by, and the timeline's, of what is durable;
 *  - what the timeline holds was synced first; what the base images hold was in the timeline first.
 * Must not know: owners, other lines, views, branches.
 */
import {
  asError,
  CorruptionFault,
  type Fault,
  type Logger,
  type Platform,
  ProtocolFault,
  StorageFault,
} from '@rephub/platform';
import {
  decodeBody,
  encodeBody,
  frameBytes,
  type FrameHeader,
  FrameType,
  type HashRegion,
  HEADER_BYTES,
  type Line,
  payloadOf,
  type RegionHashes,
  volumeAddedSchema,
} from '@rephub/protocol';
import { z } from 'zod';
import { Applier } from './applier/applier.js';
import type { RetentionLimits } from './applier/retention.js';
import { type Applied, AppliedFile } from './base/applied-file.js';
import { BaseSet, type UnreadableRanges } from './base/base-set.js';
import { NumberWaits } from './compare/number-waits.js';
import { RegionHasher } from './compare/region-hasher.js';
import { IndexMemory } from './index/extent-index.js';
import { JournalReader } from './journal/journal-reader.js';
import { recoverJournal, type RecoveredJournal } from './journal/journal-recovery.js';
import { JournalWriter } from './journal/journal-writer.js';
import { segmentBase, type SegmentSet } from './journal/segments.js';
import { PendingRecord, PendingRecords } from './layers/pending-records.js';
import { Timeline } from './layers/timeline.js';
import { LineState, lineStart } from './line-state.js';
import { SlotFile } from './slot-file.js';

const HINT_SLOT_BYTES = 4096;
/** How often the last durable number is written down; it only has to be a lower bound. */
const HINT_EVERY_MS = 1000;
/** Segments are used again only where the journal may hold several times what is kept for that. */
const RECYCLE_FROM_SEGMENTS = 8;

const hintSchema = z.object({ version: z.literal(1), line: z.string(), number: z.number().int().min(0) });

export interface LineStoreEvents {
  readonly progressed: () => void;
  readonly congested: (now: boolean) => void;
  readonly full: (now: boolean) => void;
  readonly failed: (fault: Fault) => void;
}

export interface LineStoreOptions {
  readonly platform: Pick<Platform, 'clock' | 'files'>;
  /** GROUP/lines/LINE and GROUP/base */
  readonly directory: string;
  readonly baseDirectory: string;
  readonly group: string;
  readonly hubId: string;
  readonly line: Line;
  readonly limits: RetentionLimits;
  readonly segmentBytes: number;
  readonly queueBytes: number;
  readonly log: Logger;
  readonly events: LineStoreEvents;
}

/** What was found on the disk, before anything runs. */
interface Found {
  readonly appliedFile: AppliedFile;
  readonly applied: Applied;
  readonly hint: SlotFile;
  readonly base: BaseSet;
  readonly timeline: Timeline;
  readonly journal: RecoveredJournal;
}

export class LineStore {
  readonly line: Line;
  readonly appended: LineState;
  readonly timeline: Timeline;
  readonly base: BaseSet;
  readonly journal: JournalReader;
  readonly writer: JournalWriter;
  readonly segments: SegmentSet;
  readonly applier: Applier;
  readonly #options: LineStoreOptions;
  readonly #appliedFile: AppliedFile;
  readonly #hint: SlotFile;
  readonly #pending = new PendingRecords();
  readonly #waits = new NumberWaits();
  readonly #hasher: RegionHasher;
  readonly #record = new PendingRecord();
  /** Names that came with VolumeAdded records which are not durable yet. */
  readonly #names = new Map<number, string>();
  #hintAtMs = 0;
  #hinting: Promise<void> | null = null;

  private constructor(options: LineStoreOptions, found: Found) {
    const { platform, events, line } = options;
    const { timeline, journal } = found;
    this.#options = options;
    this.line = line;
    this.timeline = timeline;
    this.base = found.base;
    this.#appliedFile = found.appliedFile;
    this.#hint = found.hint;
    this.segments = journal.segments;
    this.journal = new JournalReader(journal.segments);
    this.appended = new LineState(line, timeline.state.point());
    this.writer = new JournalWriter(
      {
        clock: platform.clock,
        files: platform.files,
        segments: journal.segments,
        segmentBytes: options.segmentBytes,
        queueBytes: options.queueBytes,
        events: {
          written: () => {
            events.progressed();
          },
          durable: (number) => {
            this.#becameDurable(number);
          },
          congested: events.congested,
          full: (now) => {
            events.full(now);
            this.applier.poke();
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
      segments: journal.segments,
      journal: this.journal,
      base: found.base,
      appliedFile: found.appliedFile,
      applied: { number: found.applied.point.number, position: found.applied.position },
      isDiskFull: () => this.writer.full,
      failed: events.failed,
      freed: () => {
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
    const { files } = options.platform;
    await files.makeDirectory(options.directory);
    const { file: appliedFile, applied } = await openApplied(options);
    const { file: hint, number: hinted } = await openHint(options);
    const base = new BaseSet(files, options.baseDirectory);
    let segments: SegmentSet | null = null;
    try {
      const knownDurable = Math.max(applied.point.number, hinted);
      const unreadable = await readUnreadable(base);
      const timeline = new Timeline(options.line, applied.point, applied.position, new IndexMemory(), unreadable);
      const journal = await readJournal(options, timeline, applied.position, knownDurable);
      ({ segments } = journal);
      await openImages(base, applied, timeline);
      return new LineStore(options, { appliedFile, applied, hint, base, timeline, journal });
    } catch (error) {
      await segments?.close();
      await base.close();
      await hint.close();
      await appliedFile.close();
      throw error;
    }
  }

  get damage(): string | null {
    return this.appended.damage;
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
    const bytes = frameBytes(header);
    const position = this.writer.append(raw, bytes, header.number);
    if (name !== null) this.#names.set(header.number, name);
    this.#pending.push(header, position + HEADER_BYTES, position + bytes);
    appended.advance(header, name);
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
    }
  }

  async #writeHint(): Promise<void> {
    try {
      await this.#hint.write(encodeBody({ version: 1, line: this.line.id, number: this.timeline.state.number }));
    } catch (error) {
      // Only a lower bound is lost; what counts is in the journal.
      this.#options.log.warn('durable-hint-failed', { line: this.line.id, message: asError(error).message });
    }
  }
}

function volumeName(header: FrameHeader, raw: readonly Buffer[]): string {
  return decodeBody(volumeAddedSchema, Buffer.concat(payloadOf(header, raw)), `record ${header.number}`).name;
}

function hintedNumber(body: Buffer | null, line: Line): number {
  if (body === null) return 0;
  try {
    const hint = decodeBody(hintSchema, body, 'durable');
    return hint.line === line.id ? hint.number : 0;
  } catch {
    return 0;
  }
}

/** A new line gets its `applied`; an old one whose `applied` is gone is not to be believed. */
async function openApplied(options: LineStoreOptions): Promise<{ file: AppliedFile; applied: Applied }> {
  const { baseDirectory, directory, line } = options;
  const { files } = options.platform;
  await files.makeDirectory(baseDirectory);
  const opened = await AppliedFile.open(files, baseDirectory);
  if (opened === null) {
    const hasSegments = (await files.list(directory)).some((name) => segmentBase(name) !== null);
    const hasImages = (await files.list(baseDirectory)).some((name) => name.endsWith('.raw'));
    if (hasSegments || hasImages) {
      throw new CorruptionFault(
        'applied-missing',
        `${baseDirectory}/applied is missing: what the base images hold is unknown`,
      );
    }
    const applied: Applied = { version: 1, line, position: 0, point: lineStart(line) };
    return { file: await AppliedFile.make(files, baseDirectory, applied), applied };
  }
  const { file, applied } = opened;
  if (applied.line.id === line.id) return { file, applied };
  await file.close();
  throw new CorruptionFault(
    'applied-foreign',
    `${baseDirectory}/applied is of line ${applied.line.id}, expected ${line.id}`,
  );
}

async function openHint(options: LineStoreOptions): Promise<{ file: SlotFile; number: number }> {
  const { directory, line, platform } = options;
  const path = `${directory}/durable`;
  const found = await SlotFile.open(platform.files, path, HINT_SLOT_BYTES);
  if (found !== null) return { file: found.file, number: hintedNumber(found.body, line) };
  const body = encodeBody({ version: 1, line: line.id, number: 0 });
  return { file: await SlotFile.make(platform.files, path, HINT_SLOT_BYTES, body), number: 0 };
}

async function readUnreadable(base: BaseSet): Promise<UnreadableRanges> {
  try {
    return await base.readUnreadable();
  } catch (error) {
    if (error instanceof StorageFault) throw error;
    throw new CorruptionFault('unreadable-damaged', `${base.directory}/unreadable is damaged`, { cause: error });
  }
}

async function readJournal(
  options: LineStoreOptions,
  timeline: Timeline,
  from: number,
  knownDurable: number,
): Promise<RecoveredJournal> {
  const { line, group, directory, log } = options;
  const record = new PendingRecord();
  const journal = await recoverJournal({
    files: options.platform.files,
    log,
    directory,
    group,
    line,
    from,
    knownDurable,
    recycles: options.limits.journalMaxBytes >= RECYCLE_FROM_SEGMENTS * options.segmentBytes,
    sink: {
      frame(header, raw, position) {
        timeline.state.check(header);
        const name = header.type === FrameType.VolumeAdded ? volumeName(header, raw) : null;
        if (name !== null) timeline.state.checkName(header.number, name);
        record.type = header.type;
        record.volume = header.volume;
        record.offset = header.offset;
        record.length = header.length;
        record.number = header.number;
        record.headerChecksum = header.headerChecksum;
        record.agentTimeUs = header.agentTimeUs;
        record.payloadPosition = position + HEADER_BYTES;
        record.endPosition = position + frameBytes(header);
        timeline.take(record, name);
      },
      afterDamage(damage) {
        timeline.markDamage(damage);
      },
      number: () => timeline.state.number,
    },
  });
  if (journal.cutBytes > 0)
    log.info('journal-tail-cut', { line: line.id, bytes: journal.cutBytes, number: timeline.state.number });
  if (journal.damage !== null) {
    log.error('journal-damaged', { line: line.id, number: timeline.state.number, message: journal.damage });
    timeline.markDamage(journal.damage);
  }
  return journal;
}

/** Opens the images that `applied` speaks of; each has the size of then, or one that a later record gave it. */
async function openImages(base: BaseSet, applied: Applied, timeline: Timeline): Promise<void> {
  const sizes = new Map<number, number[]>(applied.point.volumes.map(({ added, sizeBytes }) => [added, [sizeBytes]]));
  const gone = new Set<number>();
  for (const layer of timeline.layers) {
    for (const { kind, volume, sizeBytes } of layer.changes) {
      if (kind === 'resized') sizes.get(volume.added)?.push(sizeBytes);
      else if (kind === 'removed') gone.add(volume.added);
    }
  }
  for (const { added, name } of applied.point.volumes) {
    try {
      await base.open(added, name, sizes.get(added) ?? []);
    } catch (error) {
      // Put aside by a fold that did not get to say so.
      if (error instanceof CorruptionFault && error.code === 'base-missing' && gone.has(added)) continue;
      throw error;
    }
  }
}
