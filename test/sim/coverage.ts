/** What a run, or many, have come across: the figures that are printed, and the least that long runs must reach. */
import { type LogFields } from '@rephub/platform';
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
  'replayed',
  'grown',
  'grown-while-down',
  'refused-at-start',
  'semi-sync',
  'sync',
  'written-again',
  'corruption-named',
  'opened-anew',
  'jitter',
  'catalogue-kept',
  'catalogue-rolled-back',
  'catalogue-lost',
];

/** One is demanded of so many seeds: about ten came up in as many when it was counted, so a lack of it is no chance. */
const OFTEN = 20;
const USUAL = 60;
const SELDOM = 120;
const RARE = 240;
const HARDLY_EVER = 1000;

/** Lineage rows, happenings and promises that come up less than often; and faults that do less than usually. */
const SEEDS_PER_ONE: Readonly<Record<string, number>> = {
  // What takes two things at once, a fault and somebody who meets it, or an act that seldom finds what it needs.
  'restore-agent': HARDLY_EVER,
  'upstream-other-size': RARE,
  'lose-hub': RARE,
  'opened-anew': RARE,
  'restore-hub': RARE,
  'upstream-unreadable': SELDOM,
  'upstream-slow': SELDOM,
  'foreign-agent': SELDOM,
  'one-way': SELDOM,
  'lose-agent': SELDOM,
  'forget-group': SELDOM,
  'L2-unknown-known': USUAL,
  'L14-untrusted': USUAL,
  'L18-span-open': USUAL,
  'L3-foreign-agent': SELDOM,
  'L9-hub-older': SELDOM,
  'L19-volume-set': RARE,
  'L17-first-sync-cut': RARE,
  'L21-marked': RARE,
  'L4-session-back': HARDLY_EVER,
  'L13-never-consistent': HARDLY_EVER,
  grown: USUAL,
  'semi-sync': USUAL,
  sync: USUAL,
  'written-again': USUAL,
  'grown-while-down': SELDOM,
  'corruption-named': RARE,
  unreadable: RARE,
  'disk-full': RARE,
  'refused-at-start': HARDLY_EVER,
  FRAME: USUAL,
  ISOLATE: USUAL,
  FAILWR: USUAL,
  'FAIL-OPEN': USUAL,
  NODISCARD: SELDOM,
  FULL: RARE,
};

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
  event(event: string, fields: LogFields): void {
    if (event === 'pulled-ahead') this.happened('pulled-ahead');
    if (event === 'link-up') this.happened('reconnect');
    if (event === 'volume-grown') this.happened('grown');
    if (event === 'resync-ended') this.happened('span');
    if (event === 'written-again') this.happened('written-again');
    if (event === 'upstream-unreadable') this.happened('unreadable');
    if (event === 'upstream-back' && Number(fields['played']) > 0) this.happened('replayed');
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
    const expect = (counts: Counts, what: string, commonly: number, kind: string): void => {
      const least = Math.floor(this.seeds / (SEEDS_PER_ONE[what] ?? commonly));
      const got = counts[what] ?? 0;
      if (got < least) missing.push(`${kind} ${what}: ${got}, at least ${least} in ${this.seeds} seeds`);
    };
    for (const kind of STEP_KINDS) expect(this.faults, kind, USUAL, 'fault');
    for (const { id } of LINEAGE_TABLE) if (!(id in UNREACHABLE_ROWS)) expect(this.rows, id, OFTEN, 'row');
    for (const what of HAPPENINGS) expect(this.happenings, what, OFTEN, 'happening');
    for (const promise of promises) expect(this.promises, promise, OFTEN, 'promise');
    return missing;
  }
}

function count(counts: Counts, what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}
