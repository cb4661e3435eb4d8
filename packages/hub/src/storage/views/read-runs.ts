/**
 * Adds what was found of a range to an answer: pieces of one record, or of the base image, that lie near each other are
 * read at once, over what has been written between them since. A disk that is written in small pieces would otherwise
 * need two reads for each of them.
 *
 * Always holds: a run is looked at a bounded number of times, and of what is read at most NEAR_BYTES for each run is
 * not wanted.
 */
import type { BaseImage } from '../base/base-image.js';
import { Place } from '../index/extent-leaf.js';
import type { RunList } from '../index/run-list.js';
import type { JournalReader } from '../journal/journal-reader.js';
import type { ReadAssembly } from './read-assembly.js';

/** Reading so much that is not wanted costs less than another read. */
const NEAR_BYTES = 32 * 1024;
/** Reads that have parts to come, at most; what finds no room among them is read by itself. */
const MOST_OPEN = 4;
/** The shift of the base image: no record has it. */
const IMAGE = Infinity;

export interface Sources {
  readonly journal: JournalReader;
  /** Null: the volume has none, what no record holds is zeroes. */
  readonly image: BaseImage | null;
}

/** A read of [start, end) of the volume; its parts have the same shift. */
interface Stretch {
  readonly shift: number;
  readonly start: number;
  readonly end: number;
  readonly buffer: Buffer;
}

export function readRuns(assembly: ReadAssembly, runs: RunList, sources: Sources): void {
  const open: Stretch[] = [];
  for (let run = 0; run < runs.count; run += 1) {
    const start = runs.start(run);
    const length = runs.end(run) - start;
    const shift = shiftOf(runs, run, sources);
    if (shift === null) {
      if (runs.place(run) === Place.Unreadable) assembly.fail();
      else assembly.zeroes(length);
      continue;
    }
    const under = open.find((stretch) => stretch.shift === shift && start < stretch.end);
    if (under !== undefined) {
      const at = start - under.start;
      assembly.part(under.buffer.subarray(at, at + length), false);
      continue;
    }
    const free = freeOf(open, start);
    const end = free < MOST_OPEN ? endOfStretch(runs, run, shift, sources) : start + length;
    const buffer = assembly.begin(end - start, (into) => read(into, start, shift, sources));
    assembly.part(buffer.subarray(0, length), true);
    if (end > start + length) open[free] = { shift, start, end, buffer };
  }
}

/** What leads from an offset of the volume to where it is read: the same for all of a record; null: nothing is read. */
function shiftOf(runs: RunList, run: number, { image }: Sources): number | null {
  const place = runs.place(run);
  if (place >= 0) return place - runs.start(run);
  return place === Place.Gap && image !== null ? IMAGE : null;
}

/** The place of one that has no part to come from here on, or behind the last. */
function freeOf(open: readonly Stretch[], start: number): number {
  const over = open.findIndex(({ end }) => end <= start);
  return over < 0 ? open.length : over;
}

/** How far one read goes that begins with this run. */
function endOfStretch(runs: RunList, first: number, shift: number, sources: Sources): number {
  const start = runs.start(first);
  // What lies in one segment, or is of one compressed record, may be read at once.
  const limit = shift === IMAGE ? Infinity : start + sources.journal.bytesToSegmentEnd(start + shift);
  let end = runs.end(first);
  for (let run = first + 1; run < runs.count && runs.start(run) - end <= NEAR_BYTES; run += 1) {
    if (shiftOf(runs, run, sources) === shift && runs.end(run) <= limit) end = runs.end(run);
  }
  return end;
}

function read(into: Buffer, start: number, shift: number, { journal, image }: Sources): Promise<void> {
  if (shift !== IMAGE) return journal.read(into, start + shift);
  return image === null ? Promise.resolve() : image.read(into, start);
}
