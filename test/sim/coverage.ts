/** What a run, or many, have come across: the figures that are printed, and the least that long runs must reach. */
import { LINEAGE_TABLE } from '@rephub/protocol';
import { STEP_KINDS } from './step-kinds.js';

export type Counts = Record<string, number>;

/** Rows that no run can meet today, and why. */
export const UNREACHABLE_ROWS: Readonly<Record<string, string>> = {
  'L5-failed-over': 'failover is not built yet',
  'L6-other-line': 'failover is not built yet',
  'L7-split-brain': 'only failover makes a second line; an operator who enrols another agent begins the group anew',
  'L8-volumes': "the agent's own state refuses a changed volume before the hub sees it",
  'L10-hub-lost-durable': 'cleared marks rest on all that is durable: L9 says it first',
  'L11-hub-ahead': 'an agent that is older than the hub comes with a session that is older too: L4 says it first',
  'L12-other-record': 'two hubs would have to take turns; lineage-model.test.ts meets it',
};

/** Things besides faults, rows and promises that must come up. */
const HAPPENINGS = [
  'span',
  'pulled-ahead',
  'resume',
  'reconnect',
  'first-sync',
  'disk-full',
  'unreadable',
  'grown',
  'grown-while-down',
  'refused-at-start',
  'semi-sync',
  'sync',
  'written-again',
  'corruption-named',
];

/** What takes two things at once: a fault, and somebody who meets it. */
const RARE: ReadonlySet<string> = new Set([
  'disk-full',
  'FULL',
  'unreadable',
  'refused-at-start',
  'written-again',
  'corruption-named',
]);

export class Coverage {
  readonly faults: Counts = {};
  readonly rows: Counts = {};
  readonly promises: Counts = {};
  readonly happenings: Counts = {};
  seeds = 0;
  virtualMs = 0;
  requests = 0;
  crashes = 0;
  records = 0;

  checked(promise: string): void {
    count(this.promises, promise);
  }

  fault(kind: string): void {
    count(this.faults, kind);
  }

  row(row: string): void {
    count(this.rows, row);
  }

  happened(what: string): void {
    count(this.happenings, what);
  }

  /** What the agent's log tells. */
  event(event: string): void {
    if (event === 'pulled-ahead') this.happened('pulled-ahead');
    if (event === 'link-up') this.happened('reconnect');
    if (event === 'volume-grown') this.happened('grown');
    if (event === 'resync-ended') this.happened('span');
    if (event === 'written-again') this.happened('written-again');
    if (event === 'upstream-unreadable') this.happened('unreadable');
  }

  add(other: Coverage): void {
    for (const [mine, theirs] of [
      [this.faults, other.faults],
      [this.rows, other.rows],
      [this.promises, other.promises],
      [this.happenings, other.happenings],
    ] as const) {
      for (const [what, times] of Object.entries(theirs)) mine[what] = (mine[what] ?? 0) + times;
    }
    this.seeds += other.seeds;
    this.virtualMs += other.virtualMs;
    this.requests += other.requests;
    this.crashes += other.crashes;
    this.records += other.records;
  }

  /** What was not reached although so many seeds should have; empty for short runs. `promises`: the checked ones. */
  missing(promises: readonly string[]): string[] {
    const missing: string[] = [];
    const expect = (counts: Counts, what: string, seedsPerOne: number, kind: string): void => {
      const least = Math.floor(this.seeds / seedsPerOne);
      const got = counts[what] ?? 0;
      if (got < least) missing.push(`${kind} ${what}: ${got}, at least ${least} in ${this.seeds} seeds`);
    };
    for (const kind of STEP_KINDS) expect(this.faults, kind, 40, 'fault');
    for (const { id } of LINEAGE_TABLE) if (!(id in UNREACHABLE_ROWS)) expect(this.rows, id, 200, 'row');
    const often = (what: string): number => (RARE.has(what) ? 100 : 20);
    for (const what of HAPPENINGS) expect(this.happenings, what, often(what), 'happening');
    for (const promise of promises) expect(this.promises, promise, often(promise), 'promise');
    return missing;
  }
}

function count(counts: Counts, what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}
