/**
 * The content of a pinned point: finds ranges in layers and base images and reads them. Shared by views and branches.
 *
 * Always holds: what is looked up is read from the same place however long that takes: journal segments in use stay, and
 * below a pin nothing is folded over what the base image still answers for.
 */
import { AllocationFlag } from '@rephub/nbd';
import type { BaseImage } from '../base/base-image.js';
import type { BaseSet } from '../base/base-set.js';
import { Place } from '../index/extent-leaf.js';
import { Resolver } from '../index/resolver.js';
import type { JournalReader } from '../journal/journal-reader.js';
import type { Volume } from '../layers/layer.js';
import type { Timeline } from '../layers/timeline.js';
import type { ReadAssembly } from './read-assembly.js';

/** Runs of one block status answer, at most. */
const MOST_RUNS = 1024;
/** Runs that are looked up for one answer at most: neighbours that look the same to a client are one of its runs. */
const MOST_LOOKED_UP = 65_536;
/** The stretch of a disk that is looked up first; one with few runs is followed by one of twice its length. */
const FIRST_STRETCH_BYTES = 256 * 1024;
const FEW_RUNS = 64;
/** And the longest: what is looked up at once takes memory and the event loop, and behind a long hole may lie any number of runs. */
const LONGEST_STRETCH_BYTES = 256 * 1024 * 1024;

export class PointContent {
  readonly #timeline: Timeline;
  readonly #journal: JournalReader;
  readonly #base: BaseSet;
  readonly #number: number;
  readonly #resolver = new Resolver();

  constructor(timeline: Timeline, journal: JournalReader, base: BaseSet, number: number) {
    this.#timeline = timeline;
    this.#journal = journal;
    this.#base = base;
    this.#number = number;
  }

  /** Adds the pieces of [start, end) to the answer. */
  read(assembly: ReadAssembly, volume: Volume, start: number, end: number): void {
    this.#timeline.resolve(this.#resolver, this.#number, volume, start, end);
    const { runs } = this.#resolver;
    const image = this.#base.image(volume.added);
    for (let run = 0; run < runs.count; run += 1) {
      const from = runs.start(run);
      const length = runs.end(run) - from;
      const place = runs.place(run);
      if (place >= 0) assembly.piece(length, (buffer) => this.#journal.read(buffer, place));
      else if (place === Place.Unreadable) assembly.fail();
      else if (place === Place.Gap && image !== null) assembly.piece(length, (buffer) => image.read(buffer, from));
      else assembly.zeroes(length);
    }
  }

  /** Runs of `base:allocation` from `start` on, [length, flags, …]; may stop short of `end`. */
  async allocation(volume: Volume, start: number, end: number, into: RunCollector): Promise<void> {
    await inStretches(start, end, into, (from, to) => this.#stretch(volume, from, to, into));
  }

  async #stretch(volume: Volume, start: number, end: number, into: RunCollector): Promise<Looked> {
    this.#timeline.resolve(this.#resolver, this.#number, volume, start, end);
    const { runs } = this.#resolver;
    const found: { readonly from: number; readonly to: number; readonly place: number }[] = [];
    for (let run = 0; run < runs.count && found.length < MOST_RUNS; run += 1) {
      found.push({ from: runs.start(run), to: runs.end(run), place: runs.place(run) });
    }
    const image = this.#base.image(volume.added);
    for (const { from, to, place } of found) {
      if (into.full) break;
      if (place === Place.Zero || (place === Place.Gap && image === null)) into.hole(to - from);
      else if (place !== Place.Gap) into.data(to - from);
      else await imageRuns(image, from, to, into);
    }
    return { to: found.at(-1)?.to ?? end, runs: found.length };
  }
}

async function imageRuns(image: BaseImage | null, from: number, to: number, into: RunCollector): Promise<void> {
  for (let at = from; at < to && !into.full;) {
    const data = (await image?.nextData(at)) ?? null;
    const dataFrom = data === null ? to : Math.min(to, Math.max(at, data.position));
    const dataTo = data === null ? to : Math.min(to, data.position + data.lengthBytes);
    into.hole(dataFrom - at);
    into.data(dataTo - dataFrom);
    at = Math.max(dataTo, dataFrom);
  }
}

/** How far a stretch was looked up, and how many runs it has there. */
export interface Looked {
  readonly to: number;
  readonly runs: number;
}

/**
 * Collects the runs of [start, end) stretch by stretch until the answer is full, so that who asks for one run of a disk
 * does not have all of it looked up. `look` adds the runs of a stretch.
 */
export async function inStretches(
  start: number,
  end: number,
  into: RunCollector,
  look: (from: number, to: number) => Promise<Looked>,
): Promise<void> {
  let length = FIRST_STRETCH_BYTES;
  let lookedUp = 0;
  for (let at = start; at < end && !into.full;) {
    const { to, runs } = await look(at, Math.min(end, at + length));
    at = to;
    lookedUp += runs;
    if (runs <= FEW_RUNS) length = Math.min(2 * length, LONGEST_STRETCH_BYTES);
    // What a caller adds next must not be taken for what follows here.
    if (at < end && lookedUp >= MOST_LOOKED_UP) into.stop();
  }
}

/** Runs of an answer to block status; neighbours with the same flags are one. */
export class RunCollector {
  readonly runs: number[] = [];
  readonly #most: number;
  #full = false;

  constructor(most: number = MOST_RUNS) {
    this.#most = most;
  }

  /** The answer ends here: a run had no room any more, or what follows is not known. */
  get full(): boolean {
    return this.#full;
  }

  /** Nothing more is taken. */
  stop(): void {
    this.#full = true;
  }

  hole(length: number): void {
    this.#add(length, AllocationFlag.Hole | AllocationFlag.Zero);
  }

  data(length: number): void {
    this.#add(length, 0);
  }

  #add(length: number, flags: number): void {
    if (length === 0 || this.#full) return;
    const { runs } = this;
    const last = runs.length - 1;
    if (last > 0 && runs[last] === flags) runs[last - 1] = (runs[last - 1] ?? 0) + length;
    else if (runs.length < this.#most * 2) runs.push(length, flags);
    else this.#full = true;
  }
}
