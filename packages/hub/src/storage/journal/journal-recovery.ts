/**
 * Finds out, at the start, what the journal of a line holds: reads it from the applied position on, checks every frame,
 * cuts a torn tail, names corruption.
 *
 * What a bad (or missing) frame at position P, where record n was expected, means. Rows are tried in order:
 *
 *   | row | condition                                              | verdict |
 *   | J1  | P is where the chain of segments says that frames end  | nothing is wrong, go on there |
 *   | J2  | a next segment exists: it proves the one before whole  | corruption |
 *   | J3  | n is at or below the last number known to be durable   | corruption |
 *   | J4  | what is there, or the number of J3, cannot be read     | corruption |
 *   | J5  | otherwise                                              | torn tail: cut at P |
 *
 * Corruption is never cut: the damaged segment and those after it stay; a new segment, at a position above them all, will
 * name P as the end of what it follows.
 */
import type { FileSystem, Logger } from '@rephub/platform';
import { asError, CorruptionFault, Fault, readExactly } from '@rephub/platform';
import type { FrameHeader } from '@rephub/protocol';
import { mayPass } from '../passing-faults.js';
import type { Line } from '../point.js';
import { scanFrames } from './journal-scan.js';
import { decodeSegmentHeader, segmentHeaderBytes, type SegmentInfo } from './segment-header.js';
import { Segment, segmentBase, segmentName, SegmentSet } from './segments.js';

export type TailVerdict = 'go-on' | 'corruption' | 'torn';

/** The table above. */
export function judgeEnd(facts: {
  readonly endsWhereItShould: boolean;
  readonly nextSegmentExists: boolean;
  readonly expectedNumber: number;
  readonly knownDurable: number;
  readonly isUnread: boolean;
}): TailVerdict {
  if (facts.endsWhereItShould) return 'go-on';
  if (facts.nextSegmentExists) return 'corruption';
  if (facts.expectedNumber <= facts.knownDurable) return 'corruption';
  if (facts.isUnread) return 'corruption';
  return 'torn';
}

export interface RecoverySink {
  /** A frame that may come next by its checksums; throws a ProtocolFault when it does not follow. */
  frame(header: FrameHeader, raw: readonly Buffer[], position: number): void;
  /** A segment begins here that follows damage. */
  afterDamage(damage: string): void;
  /** The last number taken so far. */
  number(): number;
}

export interface RecoveryOptions {
  readonly files: FileSystem;
  readonly log: Logger;
  readonly directory: string;
  readonly group: string;
  readonly line: Line;
  /** Where to begin: everything before is in the base images. */
  readonly from: number;
  readonly knownDurable: number;
  /** It may be more: the disk did not give all that says so. */
  readonly isDurableUnread: boolean;
  readonly recycles: boolean;
  readonly sink: RecoverySink;
}

export interface RecoveredJournal {
  readonly segments: SegmentSet;
  /** Where the next frame goes. */
  readonly position: number;
  /** Null: into the last segment. Otherwise a new segment begins at this position. */
  readonly nextBase: number | null;
  /** What is damaged; null when nothing is. */
  readonly damage: string | null;
  readonly cutBytes: number;
}

/**
 * Reads, judges and mends the journal in `directory`. What it finds counts as durable from now on, so it is made so: a killed
 * process may have left it in the cache alone. Throws StorageFaults of the disk; corruption is a result, not
 * a throw.
 */
export async function recoverJournal(options: RecoveryOptions): Promise<RecoveredJournal> {
  const segments = new SegmentSet(options.files, options.directory, { recycles: options.recycles, pastCache: true });
  try {
    return await recoverInto(segments, options);
  } catch (error) {
    // It is tried again in this process.
    await segments.close();
    throw error;
  }
}

async function recoverInto(segments: SegmentSet, options: RecoveryOptions): Promise<RecoveredJournal> {
  const { files, directory, from, sink } = options;
  await files.syncDirectory(directory);
  const names = await files.list(directory);
  await segments.adoptSpares(names);
  const found = await findSegments(options, names);
  const chain = chainOf(found.good, from);
  let damage: string | null = null;
  let position = from;
  let cutBytes = 0;

  if (chain.length === 0 && (from > 0 || found.highestEnd > 0))
    damage = `the journal segment with position ${from} is missing or damaged`;
  for (const [index, segment] of chain.entries()) {
    const next = chain[index + 1];
    if (segment.base > from) {
      // The first one of a chain that does not reach back to where reading begins.
      if (index === 0 && segment.info.previousEnd !== from) {
        damage = `journal segments between positions ${from} and ${segment.base} are missing`;
        break;
      }
      const told = segment.info.before.damage;
      if (told !== null) sink.afterDamage(told);
    }
    segments.add(segment);
    const start = Math.max(from, segment.base + segment.headerBytes);
    const end = next?.info.previousEnd ?? Infinity;
    const file = await segments.acquire(segment);
    try {
      const result = await scanFrames(file, segment.base, start, end, (header, raw, at) => {
        sink.frame(header, raw, at);
      });
      ({ position } = result);
      const orphans = next === undefined && found.damagedAbove(segment.base);
      const verdict = judgeEnd({
        endsWhereItShould: result.why === null && !orphans,
        nextSegmentExists: next !== undefined || orphans,
        expectedNumber: sink.number() + 1,
        knownDurable: options.knownDurable,
        isUnread: result.unread !== null || options.isDurableUnread,
      });
      segment.end = position;
      if (verdict === 'torn') {
        cutBytes = segment.base + segment.sizeBytes - position;
        await file.truncate(position - segment.base);
        segments.grown(segment, position - segment.base);
      }
      await file.sync();
      if (verdict === 'corruption') {
        damage = `record ${sink.number() + 1} at position ${position} (${segment.path}) is damaged: ${result.why ?? 'a later segment is'}`;
        break;
      }
    } finally {
      segments.release(segment);
    }
  }
  if (damage === null && sink.number() < options.knownDurable) {
    damage = `the journal ends with record ${sink.number()}, record ${options.knownDurable} was durable`;
  }
  segments.removeBelow(from);
  // Left behind by a removal that a crash cut short, or passed by after damage: all of it is applied.
  for (const segment of found.good) {
    if (segment.base < from && !chain.includes(segment)) await files.remove(segment.path);
  }
  if (damage !== null) {
    // Well above all that is there, so that no old name is met.
    return { segments, position, nextBase: Math.max(found.highestEnd, position) + 4096, damage, cutBytes };
  }
  const { last } = segments;
  if (last !== null) last.end = Infinity;
  return { segments, position, nextBase: last === null ? position : null, damage, cutBytes };
}

interface FoundSegments {
  readonly good: readonly Segment[];
  /** Position above which nothing is on the disk. */
  readonly highestEnd: number;
  /** A segment's file lies above this position whose header cannot be believed. */
  damagedAbove(base: number): boolean;
}

async function findSegments(options: RecoveryOptions, names: readonly string[]): Promise<FoundSegments> {
  const { files, directory, log } = options;
  const good: Segment[] = [];
  const bad: number[] = [];
  let highestEnd = 0;
  for (const name of names) {
    const base = segmentBase(name);
    if (base === null) continue;
    const path = `${directory}/${name}`;
    const status = await files.status(path);
    highestEnd = Math.max(highestEnd, base + (status?.sizeBytes ?? 0));
    try {
      const { info, headerBytes } = await readHeader(files, path);
      if (info.line.id !== options.line.id || info.group !== options.group || segmentName(info.base) !== name) {
        throw new CorruptionFault('segment-foreign', `${path} belongs to group ${info.group}, line ${info.line.id}`);
      }
      good.push(new Segment(path, info, headerBytes, status?.sizeBytes ?? 0));
    } catch (error) {
      if (!(error instanceof Fault) || mayPass(error)) throw error;
      log.error('segment-damaged', { path, message: asError(error).message });
      bad.push(base);
    }
  }
  return { good, highestEnd, damagedAbove: (base) => bad.some((other) => other > base) };
}

/** From the last segment back: each one says where the frames end that it follows. Oldest first. */
function chainOf(good: readonly Segment[], from: number): Segment[] {
  const chain: Segment[] = [];
  let segment = good[good.length - 1];
  while (segment !== undefined) {
    chain.unshift(segment);
    const { base, info } = segment;
    if (base <= from) break;
    const { previousEnd } = info;
    segment = good.findLast((other) => other.base < base && other.base < previousEnd);
  }
  return chain;
}

async function readHeader(files: FileSystem, path: string): Promise<{ info: SegmentInfo; headerBytes: number }> {
  const file = await files.open(path, 'read');
  try {
    const block = await readExactly(file, 0, 4096);
    const headerBytes = segmentHeaderBytes(block);
    return {
      info: decodeSegmentHeader(headerBytes === 4096 ? block : await readExactly(file, 0, headerBytes)),
      headerBytes,
    };
  } finally {
    await file.close();
  }
}
