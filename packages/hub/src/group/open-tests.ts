/**
 * The failover tests of one group that are open: branches of its log, each with a lease that its owner
 * renews. A test whose owner has died goes when the lease runs out.
 *
 * Always holds: a test's end, for whatever reason, touches nothing but its branch (ISOLATE); what is
 * dropped is dropped once, and a name is free again only when its branch is gone.
 */
import { type Clock, ConfigFault, NAME_PATTERN, NAME_RULE, StorageFault, type Timer } from '@rephub/platform';
import type { TestEntry } from '../catalogue/catalogue.js';
import type { Tell } from '../events/events.js';
import type { Branch, GroupStore } from '../storage/index.js';
import { unknownTest } from '../unknown-names.js';
import { agentTimeText, type TestStatus } from './group-status.js';

export interface OpenTestRequest {
  /** Made up when left out. */
  readonly name?: string | undefined;
  /** A consistent number; the newest when left out. */
  readonly at?: number | undefined;
  /** Null: stays until it is dropped, or the hub stops. */
  readonly leaseMs: number | null;
  readonly scratchBytes: number;
}

interface OpenTest {
  readonly branch: Branch;
  readonly openedUnixMs: number;
  leaseMs: number | null;
  lease: Timer | null;
  clients: number;
  over: string | null;
  dropping: Promise<void> | null;
}

export interface OpenTestsOptions {
  readonly group: string;
  readonly clock: Clock;
  readonly tell: Tell;
  /** For the catalogue. */
  readonly note: (entry: TestEntry) => void;
}

export class OpenTests {
  readonly #options: OpenTestsOptions;
  readonly #tests = new Map<string, OpenTest>();
  /** Names whose branch is being made: they are taken, and not there yet. */
  readonly #making = new Map<string, Promise<unknown>>();
  /** Why those that are being made are dropped as soon as they are there; null while they are not. */
  #ending: string | null = null;

  constructor(options: OpenTestsOptions) {
    this.#options = options;
  }

  get names(): string[] {
    return [...this.#tests.keys()];
  }

  statuses(): TestStatus[] {
    return [...this.#tests.entries()].map(([name, test]) => statusOf(name, test));
  }

  /** Throws a ConfigFault: `bad-name`, `test-exists`, `no-consistent-point`, `unknown-point`, `journal-damaged`; a StorageFault `disk-full`, `group-failed`. */
  async open(store: GroupStore, request: OpenTestRequest): Promise<TestStatus> {
    const { group } = this.#options;
    const name = request.name ?? this.#freeName();
    if (!NAME_PATTERN.test(name) || name === 'latest')
      throw new ConfigFault(
        'bad-name',
        `'${name}' is not a test's name: ${NAME_RULE}${name === 'latest' ? ', and not latest' : ''}`,
      );
    if (this.#tests.has(name) || this.#making.has(name)) {
      throw new ConfigFault(
        'test-exists',
        `group ${group} has an open test called ${name}; give another name, or end it: rephub test drop ${group} ${name}`,
      );
    }
    const making = this.#make(store, name, request).finally(() => this.#making.delete(name));
    this.#making.set(name, making);
    return await making;
  }

  async #make(store: GroupStore, name: string, request: OpenTestRequest): Promise<TestStatus> {
    const { clock, group } = this.#options;
    const at = request.at === undefined ? {} : { at: request.at };
    const branch = await store.openBranch(name, { ...at, scratchBytes: request.scratchBytes });
    const test: OpenTest = {
      branch,
      openedUnixMs: clock.unixMs(),
      leaseMs: request.leaseMs,
      lease: null,
      clients: 0,
      over: null,
      dropping: null,
    };
    this.#tests.set(name, test);
    if (this.#ending !== null) {
      const why = this.#ending;
      await this.drop(name, why);
      throw new StorageFault('group-failed', why);
    }
    this.#arm(name, test);
    this.#options.note({
      group,
      name,
      openedUnixMs: test.openedUnixMs,
      seq: branch.number,
      endedUnixMs: null,
      end: null,
    });
    this.#options.tell('info', 'test-opened', `test ${name} opened at number ${branch.number}`, {
      test: name,
      seq: branch.number,
    });
    branch.onOver((why) => {
      test.over = why;
      this.#options.tell('warn', 'test-over', `test ${name} takes no more writes: ${why}`, { test: name });
    });
    return statusOf(name, test);
  }

  /** The lease begins anew. Throws a ConfigFault `unknown-test`. */
  renew(name: string): TestStatus {
    const test = this.#get(name);
    this.#arm(name, test);
    return statusOf(name, test);
  }

  /** Null: stays open without its owner. Throws a ConfigFault `unknown-test`. */
  keep(name: string): TestStatus {
    const test = this.#get(name);
    test.leaseMs = null;
    this.#arm(name, test);
    return statusOf(name, test);
  }

  /** Ends the test and removes all of it. Throws a ConfigFault `unknown-test`. */
  async drop(name: string, why: string): Promise<void> {
    const test = this.#tests.get(name);
    if (test === undefined) throw this.#unknown(name);
    test.lease?.cancel();
    test.dropping ??= this.#drop(name, test, why);
    await test.dropping;
  }

  /** The branch, for an export; null when no such test is open. */
  branch(name: string): Branch | null {
    const test = this.#tests.get(name);
    return test === undefined || test.dropping !== null ? null : test.branch;
  }

  /** An NBD client has begun or ended using the test. */
  client(name: string, change: 1 | -1): void {
    const test = this.#tests.get(name);
    if (test !== undefined) test.clients += change;
  }

  /**
   * Drops all, and those that are being made; none is there when it resolves, and none of the same storage may be asked for
   * any more. Throws the first failure, having done the rest.
   */
  async dropAll(why: string): Promise<void> {
    this.#ending = why;
    try {
      await Promise.allSettled(this.#making.values());
      const dropped = await Promise.allSettled(this.names.map((name) => this.drop(name, why)));
      for (const one of dropped) if (one.status === 'rejected') throw one.reason;
    } finally {
      this.#ending = null;
    }
  }

  async #drop(name: string, test: OpenTest, why: string): Promise<void> {
    const { group, clock } = this.#options;
    try {
      await test.branch.drop();
    } finally {
      this.#tests.delete(name);
      const { openedUnixMs, branch } = test;
      this.#options.note({ group, name, openedUnixMs, seq: branch.number, endedUnixMs: clock.unixMs(), end: why });
      this.#options.tell('info', 'test-dropped', `test ${name} dropped: ${why}`, { test: name });
    }
  }

  #arm(name: string, test: OpenTest): void {
    test.lease?.cancel();
    test.lease = null;
    if (test.leaseMs === null) return;
    test.lease = this.#options.clock.after(test.leaseMs, () => {
      this.drop(name, 'its owner has not renewed the lease').catch((cause: unknown) => {
        this.#options.tell('error', 'test-drop-failed', `test ${name}: ${String(cause)}`, { test: name });
      });
    });
  }

  #get(name: string): OpenTest {
    const test = this.#tests.get(name);
    if (test === undefined || test.dropping !== null) throw this.#unknown(name);
    return test;
  }

  #unknown(name: string): ConfigFault {
    return unknownTest(this.#options.group, name, this.names);
  }

  #freeName(): string {
    const stem = `test-${new Date(this.#options.clock.unixMs()).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-')}`;
    let name = stem;
    for (let count = 2; this.#tests.has(name) || this.#making.has(name); count += 1) name = `${stem}-${count}`;
    return name;
  }
}

function statusOf(name: string, test: OpenTest): TestStatus {
  return {
    name,
    seq: test.branch.number,
    pointTime: agentTimeText(test.branch.agentTimeUs),
    openedAt: new Date(test.openedUnixMs).toISOString(),
    leaseSeconds: test.leaseMs === null ? null : test.leaseMs / 1000,
    scratchBytes: test.branch.scratchBytes,
    clients: test.clients,
    over: test.over,
  };
}
