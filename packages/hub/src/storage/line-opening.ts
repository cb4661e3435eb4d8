/**
 * How a start finds a line again: its `applied`, the lower bound of what was durable, its journal, its base images.
 *
 * Always holds: everything is read and checked before anything runs; what cannot be believed is a CorruptionFault.
 */
import { CorruptionFault, StorageFault } from '@rephub/platform';
import {
  Compression,
  decodeBody,
  encodeBody,
  frameBytes,
  type FrameHeader,
  FrameType,
  HEADER_BYTES,
  type Line,
  payloadOf,
  spanBeginSchema,
  volumeAddedSchema,
} from '@rephub/protocol';
import { z } from 'zod';
import { type Applied, AppliedFile, imagesReach } from './base/applied-file.js';
import { BaseSet, type UnreadableRanges } from './base/base-set.js';
import { IndexMemory } from './index/extent-index.js';
import { PackedRecords } from './journal/packed-records.js';
import { recoverJournal, type RecoveredJournal, type RecoveryOptions } from './journal/journal-recovery.js';
import { segmentBase, type SegmentSet } from './journal/segments.js';
import { PendingRecord } from './layers/pending-records.js';
import { Timeline } from './layers/timeline.js';
import { changedSince } from './base/image-notes.js';
import { lineStart } from './line-state.js';
import type { LineStoreOptions } from './line-options.js';
import { SlotFile } from './slot-file.js';

const HINT_SLOT_BYTES = 4096;
/** Segments are used again only where the journal may hold several times what is kept for that. */
const RECYCLE_FROM_SEGMENTS = 8;

const hintSchema = z.object({ version: z.literal(1), line: z.string(), number: z.number().int().min(0) });

/** What was found on the disk, before anything runs. */
export interface LineFiles {
  readonly appliedFile: AppliedFile;
  readonly applied: Applied;
  readonly hint: SlotFile;
  readonly base: BaseSet;
  readonly timeline: Timeline;
  readonly packed: PackedRecords;
  readonly journal: RecoveredJournal;
}

/** Opens the line's files and recovers it; makes them when it is new. Throws a CorruptionFault when the base images cannot be believed. */
export async function openLineFiles(options: LineStoreOptions): Promise<LineFiles> {
  const { files } = options.platform;
  await files.makeDirectory(options.directory);
  const seeds = `${options.directory}/seeds`;
  const isSeeded = (await files.status(seeds)) !== null;
  const { file: appliedFile, applied, unread } = await openApplied(options);
  const {
    file: hint,
    number: hinted,
    isUnread,
  } = await openHint(options).catch(async (error: unknown) => {
    await appliedFile.close();
    throw error;
  });
  const base = new BaseSet(files, options.baseDirectory, isSeeded ? seeds : null, options.seeded);
  let segments: SegmentSet | null = null;
  try {
    const reach = imagesReach(applied);
    // What a fold began with was durable.
    const knownDurable = Math.max(reach, hinted, options.knownDurable);
    const unreadable = await readUnreadable(base);
    const memory = new IndexMemory();
    const timeline = new Timeline(options.line, applied.point, applied.position, reach, memory, unreadable);
    const packed = new PackedRecords(memory);
    const journal = await readJournal(options, timeline, packed, applied.position, {
      knownDurable,
      isDurableUnread: isUnread,
    });
    ({ segments } = journal);
    // What is missing may be what the newer `applied` speaks of: no reason to begin anew.
    if (journal.damage !== null && unread !== null) throw unread;
    await openImages(base, applied, timeline);
    // What they hold of lost records stays, and is compared with: then it must be there after a power cut, too.
    if (reach > timeline.state.number) await base.sync();
    const judged = await judgeImages(options, base, appliedFile, applied, timeline.state.number);
    return { appliedFile, applied: judged, hint, base, timeline, packed, journal };
  } catch (error) {
    await segments?.close();
    await base.close();
    await hint.close();
    await appliedFile.close();
    throw error;
  }
}

/** Where an index finds the payload of a record whose frame is at `position`. Call it once for each record, in their order. */
export function payloadPlace(header: FrameHeader, position: number, packed: PackedRecords): number {
  if (header.compression === Compression.none) return position + HEADER_BYTES;
  return packed.add(position, frameBytes(header), header.length);
}

/** How much a span may bring, by its SpanBegin; null when the agent does not say. */
export function expectedBytes(header: FrameHeader, raw: readonly Buffer[]): number | null {
  const body = decodeBody(spanBeginSchema, Buffer.concat(payloadOf(header, raw)), `record ${header.number}`);
  return body.expectedBytes ?? null;
}

/** The name that a VolumeAdded record brings. */
export function volumeName(header: FrameHeader, raw: readonly Buffer[]): string {
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
async function openApplied(
  options: LineStoreOptions,
): Promise<{ file: AppliedFile; applied: Applied; unread: StorageFault | null }> {
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
    return { file: await AppliedFile.make(files, baseDirectory, applied), applied, unread: null };
  }
  const { file, applied } = opened;
  if (applied.line.id === line.id) return opened;
  await file.close();
  throw new CorruptionFault(
    'applied-foreign',
    `${baseDirectory}/applied is of line ${applied.line.id}, expected ${line.id}`,
  );
}

async function openHint(options: LineStoreOptions): Promise<{ file: SlotFile; number: number; isUnread: boolean }> {
  const { directory, line, platform } = options;
  const path = `${directory}/durable`;
  const found = await SlotFile.open(platform.files, path, HINT_SLOT_BYTES);
  if (found !== null) {
    return { file: found.file, number: hintedNumber(found.body, line), isUnread: found.unread !== null };
  }
  const body = encodeBody({ version: 1, line: line.id, number: 0 });
  return { file: await SlotFile.make(platform.files, path, HINT_SLOT_BYTES, body), number: 0, isUnread: false };
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
  packed: PackedRecords,
  from: number,
  durable: Pick<RecoveryOptions, 'knownDurable' | 'isDurableUnread'>,
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
    ...durable,
    recycles: options.limits.journalMaxBytes >= RECYCLE_FROM_SEGMENTS * options.segmentBytes,
    sink: {
      frame(header, raw, position) {
        // No Fault: it says nothing of the frame, and must not be taken for what is wrong with it.
        if (options.isGivenUp()) throw new Error(`group ${group} is closed while its journal is read`);
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
        record.payloadPlace = payloadPlace(header, position, packed);
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

/** What is noted of the images, and found of them now: durable when it resolves, for the next fold hides what it rests on. */
async function judgeImages(
  { line, log }: LineStoreOptions,
  base: BaseSet,
  file: AppliedFile,
  applied: Applied,
  lastNumber: number,
): Promise<Applied> {
  // A fold that was cut short has changed them itself.
  if (applied.images === undefined || imagesReach(applied) > applied.point.number) return applied;
  const images = await base.notes();
  const changed = changedSince(applied.images, images);
  if (changed.length === 0) return applied;
  const names = applied.point.volumes.filter(({ added }) => changed.includes(added)).map(({ name }) => name);
  const why = `the base image of ${names.join(', ')} was changed, or replaced, by somebody else than the hub`;
  log.error('base-changed', { line: line.id, volumes: names.join(), number: lastNumber });
  const judged = { ...applied, images, changed: { why, since: lastNumber } };
  await file.write(judged);
  await file.write(judged);
  return judged;
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
  // What a seeded volume begins with is content, whether or not a record of it has been folded.
  for (const layer of timeline.layers) {
    for (const { kind, volume, sizeBytes } of layer.changes) {
      if (kind !== 'added' || gone.has(volume.added) || timeline.isNameTaken(volume)) continue;
      await base.imageOrSeed(volume.added, volume.name, sizeBytes);
    }
  }
}
