/** What the hub counts, as plain numbers: cheap to raise on any path, read when somebody looks. */

/** Counts by a short, bounded label. */
export class LabelledCounter {
  readonly #counts = new Map<string, number>();

  add(label: string): void {
    this.#counts.set(label, (this.#counts.get(label) ?? 0) + 1);
  }

  get entries(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  get total(): number {
    let sum = 0;
    for (const count of this.#counts.values()) sum += count;
    return sum;
  }
}

/** Of the hub as a whole. */
export class HubCounters {
  agentConnections = 0;
  /** Connections of agents that ended, by fault code; `bye` for an orderly end. */
  readonly sessionEnds = new LabelledCounter();
  /** NBD connections that ended because of what the client did, by fault code. */
  readonly nbdFaults = new LabelledCounter();
}

/** Of one group, since the hub's start. */
export class GroupCounters {
  sessions = 0;
  records = 0;
  recordBytes = 0;
  acks = 0;
  remoteReads = 0;
  testsOpened = 0;
}
