/**
 * The branches of one group that are open: made, found by name, ended when room runs low, dropped.
 *
 * Always holds: that a branch is open is decided (durable) before it is there, and that it is gone after it has gone
 * (branch-removals.ts); no branch begins while less is free than the reserve (FULL).
 */
import { asError, ConfigFault, NAME_PATTERN, StorageFault } from '@rephub/platform';
import type { BranchRemovals } from './branch-removals.js';
import type { DecisionLog } from './decisions.js';
import type { Room } from './room.js';
import type { BranchOptions, GroupStoreOptions, StorePlatform, ViewOptions } from './store-types.js';
import { TestBranch } from './views/branch.js';
import type { PointView } from './views/view.js';

/** Branches keep less in memory, and less on the disk ahead of need. */
const QUEUE_BYTES = 4 * 1024 * 1024;

export interface OpenBranchesOptions {
  readonly platform: StorePlatform;
  readonly store: Pick<GroupStoreOptions, 'group' | 'hubId' | 'log'>;
  readonly segmentBytes: number;
  /** GROUP/branches */
  readonly directory: string;
  readonly decisions: DecisionLog;
  readonly removals: BranchRemovals;
  readonly room: Room;
  readonly openView: (options: ViewOptions) => PointView;
}

export class OpenBranches {
  readonly #options: OpenBranchesOptions;
  readonly #branches = new Map<string, TestBranch>();
  /** Names whose opening is under way. */
  readonly #opening = new Set<string>();

  constructor(options: OpenBranchesOptions) {
    this.#options = options;
  }

  get names(): string[] {
    return [...this.#branches.keys()];
  }

  get(name: string): TestBranch | null {
    return this.#branches.get(name) ?? null;
  }

  /** As GroupStore.openBranch. */
  async open(name: string, options: BranchOptions): Promise<TestBranch> {
    const { group } = this.#options.store;
    if (!NAME_PATTERN.test(name)) throw new ConfigFault('bad-name', `${name} cannot be a branch's name`);
    if (this.#branches.has(name) || this.#opening.has(name)) {
      throw new ConfigFault('branch-exists', `group ${group} has a branch ${name} already`);
    }
    if (this.#options.removals.has(name)) {
      const said = `what is left of a branch ${name} of group ${group} could not be removed yet: it is tried again by itself`;
      throw new ConfigFault('branch-exists', said);
    }
    this.#opening.add(name);
    try {
      return await this.#open(name, options);
    } finally {
      this.#opening.delete(name);
    }
  }

  /** They take no more writes: what is only a test makes room for protection. */
  endForRoom(why: string): void {
    for (const branch of this.#branches.values()) branch.endForRoom(why);
  }

  /** Never throws: what cannot be removed reads nothing of the line any more, and is tried again. */
  async dropAll(): Promise<void> {
    const { log } = this.#options.store;
    for (const branch of [...this.#branches.values()]) {
      try {
        await branch.drop();
      } catch (error) {
        if (this.#branches.delete(branch.name))
          log.warn('branch-close-failed', { branch: branch.name, message: asError(error).message });
      }
    }
  }

  async #open(name: string, options: BranchOptions): Promise<TestBranch> {
    const { platform, store, decisions, removals, room, openView } = this.#options;
    const { clock, files, randomness } = platform;
    await room.look();
    if (room.isLow) throw new StorageFault('disk-full', `no room for a test: ${room.said}`, { retryable: true });
    const view = openView(options);
    try {
      await decisions.append(
        { kind: 'branch-opened', name, line: view.line, number: view.number, purpose: 'test' },
        clock.unixMs(),
      );
      removals.isOpenAgain(name);
      const branch: TestBranch = new TestBranch({
        ...store,
        clock,
        files,
        randomness,
        name,
        directory: `${this.#options.directory}/${name}`,
        view,
        scratchBytes: options.scratchBytes,
        segmentBytes: this.#options.segmentBytes,
        queueBytes: QUEUE_BYTES,
        wrote: () => {
          room.wrote();
        },
        storeLine: (line) => decisions.append({ kind: 'branch-line', name, line }, clock.unixMs()),
        remove: async () => {
          const removing = removals.remove(name, branch.scratchBytes);
          this.#branches.delete(name);
          await removing;
        },
      });
      this.#branches.set(name, branch);
      return branch;
    } catch (error) {
      await view.close();
      throw error;
    }
  }
}
