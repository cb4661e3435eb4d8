/**
 * Copies that were taken and are not yet proven, and content of cooled extents that waits for its proof.
 * Pure state; few hundred runs as a rule, as many as the window has records at worst.
 *
 * Always holds: a run leaves only by proof (number durable at the hub *and* ticket flushed upstream) or by
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

export class PendingRuns {
  readonly #runs = new Map<number, PendingRun>();
  #nextId = 1;
  #blocks = 0;
  /** Not above the lowest number and ticket of any run: most acknowledgements need not look at the runs at all. */
  #lowestNumber = Infinity;
  #lowestTicket = Infinity;

  get count(): number {
    return this.#runs.size;
  }

  /** Sum of the runs' blocks; what two runs cover counts twice. */
  get blocks(): number {
    return this.#blocks;
  }

  [Symbol.iterator](): IterableIterator<PendingRun> {
    return this.#runs.values();
  }

  add(volume: number, from: number, to: number, number = 0, ticket = 0): number {
    const id = this.#nextId;
    this.#nextId += 1;
    this.#runs.set(id, { id, volume, from, to, number, ticket });
    this.#blocks += to - from;
    if (number > 0) this.#lowerTo(number, ticket);
    return id;
  }

  /** False when the run has been given back meanwhile. */
  numbered(id: number, number: number, ticket: number): boolean {
    const run = this.#runs.get(id);
    if (run === undefined) return false;
    run.number = number;
    run.ticket = ticket;
    this.#lowerTo(number, ticket);
    return true;
  }

  /** Takes the run out; null when it is not there. */
  remove(id: number): PendingRun | null {
    const run = this.#runs.get(id);
    if (run === undefined) return null;
    this.#runs.delete(id);
    this.#blocks -= run.to - run.from;
    return run;
  }

  /** Takes out the runs with a higher number or none. */
  removeAbove(number: number): PendingRun[] {
    return [...this.#runs.values()].filter((run) => {
      if (run.number !== 0 && run.number <= number) return false;
      return this.remove(run.id) !== null;
    });
  }

  removeAll(): void {
    this.#runs.clear();
    this.#blocks = 0;
    this.#lowestNumber = Infinity;
    this.#lowestTicket = Infinity;
  }

  /** Takes out what is proven, telling `dropped` of each. */
  prove(number: number, ticket: number, dropped: (run: PendingRun) => void): void {
    if (this.#lowestNumber > number || this.#lowestTicket > ticket) return;
    this.#lowestNumber = Infinity;
    this.#lowestTicket = Infinity;
    for (const run of this.#runs.values()) {
      if (run.number === 0) continue;
      if (run.number <= number && run.ticket <= ticket) {
        this.remove(run.id);
        dropped(run);
      } else this.#lowerTo(run.number, run.ticket);
    }
  }

  /** Is there a run that only an upstream flush is missing for? */
  waitsForFlush(number: number, ticket: number): boolean {
    if (this.#lowestNumber > number) return false;
    for (const run of this.#runs.values()) {
      if (run.number !== 0 && run.number <= number && run.ticket > ticket) return true;
    }
    return false;
  }

  intersects(volume: number, from: number, to: number): boolean {
    for (const run of this.#runs.values()) if (run.volume === volume && run.from < to && run.to > from) return true;
    return false;
  }

  #lowerTo(number: number, ticket: number): void {
    if (number < this.#lowestNumber) this.#lowestNumber = number;
    if (ticket < this.#lowestTicket) this.#lowestTicket = ticket;
  }
}
