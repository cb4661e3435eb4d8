/**
 * Copies that were taken and are not yet proven, and content of cooled extents that waits for its proof.
 * Pure state; few hundred runs as a rule, as many as the window has records at worst. What waits for a flush that does not
 * come (an upstream that cannot flush, or fails to) is merged, so that it is no more than the disk has such places.
 *
 * Always holds: a run leaves only by proof (number durable at the hub *and* ticket flushed upstream, of its volume) or by
 * being given back.
 * Must not know: bits, files.
 */
export interface PendingRun {
  readonly id: number;
  readonly volume: number;
  /** Blocks `from` to `to` - 1. */
  readonly from: number;
  readonly to: number;
  /** 0: no record yet. */
  number: number;
  ticket: number;
}

/** Which of a volume's tickets a flush has covered. */
export type FlushedTicket = (volume: number) => number;

/** Volumes have numbers below this: a run's id tells its volume. */
const MOST_VOLUMES = 256;
/** More runs of a volume than this are merged; when that helps little, twice as many the next time. */
const MERGE_FROM = 16_384;

export class PendingRuns {
  readonly #volumes: (RunsOfVolume | undefined)[] = [];
  #nextId = 1;
  #count = 0;
  #blocks = 0;

  get count(): number {
    return this.#count;
  }

  /** Sum of the runs' blocks; what two runs cover counts twice. */
  get blocks(): number {
    return this.#blocks;
  }

  *of(volume: number): Generator<PendingRun> {
    const runs = this.#volumes[volume];
    if (runs !== undefined) yield* runs.byId.values();
  }

  add(volume: number, from: number, to: number, number = 0, ticket = 0): number {
    const runs = (this.#volumes[volume] ??= new RunsOfVolume());
    if (number > 0 && runs.byId.size >= runs.mergeFrom) this.#merge(runs);
    const id = this.#newId(volume);
    this.#put(runs, { id, volume, from, to, number, ticket });
    return id;
  }

  /** False when the run has been given back meanwhile. */
  numbered(id: number, number: number, ticket: number): boolean {
    const runs = this.#volumes[id % MOST_VOLUMES];
    const run = runs?.byId.get(id);
    if (runs === undefined || run === undefined) return false;
    run.number = number;
    run.ticket = ticket;
    runs.lowerTo(number, ticket);
    return true;
  }

  /** Takes the run out; null when it is not there. */
  remove(id: number): PendingRun | null {
    const runs = this.#volumes[id % MOST_VOLUMES];
    const run = runs?.byId.get(id);
    if (runs === undefined || run === undefined) return null;
    runs.byId.delete(id);
    this.#count -= 1;
    this.#blocks -= run.to - run.from;
    return run;
  }

  /** Takes out the runs with a higher number or none. */
  removeAbove(number: number): PendingRun[] {
    const removed: PendingRun[] = [];
    for (const runs of this.#volumes) {
      for (const run of runs?.byId.values() ?? []) {
        if ((run.number === 0 || run.number > number) && this.remove(run.id) !== null) removed.push(run);
      }
    }
    return removed;
  }

  removeAll(): void {
    this.#volumes.length = 0;
    this.#count = 0;
    this.#blocks = 0;
  }

  /** Takes out what is proven, telling `dropped` of each. */
  prove(number: number, flushed: FlushedTicket, dropped: (run: PendingRun) => void): void {
    for (const [volume, runs] of this.#volumes.entries()) {
      if (runs === undefined) continue;
      const ticket = flushed(volume);
      if (runs.lowestNumber > number || runs.lowestTicket > ticket) continue;
      runs.lowestNumber = Infinity;
      runs.lowestTicket = Infinity;
      for (const run of runs.byId.values()) {
        if (run.number === 0) continue;
        if (run.number <= number && run.ticket <= ticket) {
          this.remove(run.id);
          dropped(run);
        } else runs.lowerTo(run.number, run.ticket);
      }
    }
  }

  /** Is there a run that only an upstream flush is missing for? */
  waitsForFlush(number: number, flushed: FlushedTicket): boolean {
    for (const [volume, runs] of this.#volumes.entries()) {
      if (runs === undefined || runs.lowestNumber > number) continue;
      const ticket = flushed(volume);
      for (const run of runs.byId.values()) {
        if (run.number !== 0 && run.number <= number && run.ticket > ticket) return true;
      }
    }
    return false;
  }

  intersects(volume: number, from: number, to: number): boolean {
    for (const run of this.of(volume)) if (run.from < to && run.to > from) return true;
    return false;
  }

  #newId(volume: number): number {
    const id = this.#nextId * MOST_VOLUMES + volume;
    this.#nextId += 1;
    return id;
  }

  #put(runs: RunsOfVolume, run: PendingRun): void {
    runs.byId.set(run.id, run);
    this.#count += 1;
    this.#blocks += run.to - run.from;
    if (run.number > 0) runs.lowerTo(run.number, run.ticket);
  }

  /** Those with a record become as few as they can be; each is proven when the newest of what it was made of is. */
  #merge(runs: RunsOfVolume): void {
    const numbered = [...runs.byId.values()].filter(({ number }) => number > 0);
    numbered.sort((one, other) => one.from - other.from);
    const merged: { volume: number; from: number; to: number; number: number; ticket: number }[] = [];
    for (const { id, volume, from, to, number, ticket } of numbered) {
      this.remove(id);
      const last = merged.at(-1);
      if (last === undefined || from > last.to) {
        merged.push({ volume, from, to, number, ticket });
        continue;
      }
      last.to = Math.max(last.to, to);
      last.number = Math.max(last.number, number);
      last.ticket = Math.max(last.ticket, ticket);
    }
    runs.lowestNumber = Infinity;
    runs.lowestTicket = Infinity;
    for (const run of merged) this.#put(runs, { id: this.#newId(run.volume), ...run });
    runs.mergeFrom = Math.max(MERGE_FROM, 2 * runs.byId.size);
  }
}

class RunsOfVolume {
  readonly byId = new Map<number, PendingRun>();
  mergeFrom = MERGE_FROM;
  /** Not above the lowest number and ticket of any run: most acknowledgements need not look at the runs at all. */
  lowestNumber = Infinity;
  lowestTicket = Infinity;

  lowerTo(number: number, ticket: number): void {
    if (number < this.lowestNumber) this.lowestNumber = number;
    if (ticket < this.lowestTicket) this.lowestTicket = ticket;
  }
}
