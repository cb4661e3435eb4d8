/**
 * The storage of one group for as long as the hub runs: opened at the start, opened again where that failed for something that
 * passes, and closed and opened anew where its journal was found damaged: what a restart of the hub would do, for this group.
 *
 * Always holds:
 *  - at most one store has the group's files open; another is opened when that one has let go of all of them;
 *  - whoever uses a store is told that it goes before its content does;
 *  - it is not opened anew by itself once the disk has failed a write or sync of it, not even in closing: see reopening.ts;
 *  - where damage comes again and again it is opened for readers alone for a while: its agent is not let in, and nothing is
 *    folded, so nothing is found; else a disk that goes bad would keep hub and agent at reading and comparing for ever;
 *  - nothing is kept on the disk of all that: killed at any moment, the next start of the hub does the same.
 * Must not know: what sessions, tests and points do with it.
 */
import { asError, Fault, StorageFault } from '@rephub/platform';
import { loggerOf, type Tell } from '../events/events.js';
import { type GroupStore, type GroupStoreListener, type GroupStoreOptions, isJournalDamage } from '../storage/index.js';
import { Reopening } from './reopening.js';
import type { OwnFaults } from './own-faults.js';
import type { GroupSurroundings } from './surroundings.js';

export interface HeldStoreParts {
  readonly name: string;
  /** DATA/groups/GROUP */
  readonly directory: string;
  readonly around: Pick<GroupSurroundings, 'platform' | 'identity' | 'storage' | 'openStore'>;
  readonly tell: Tell;
  readonly faults: OwnFaults;
  readonly isClosing: () => boolean;
  /** Runs the task when all that is under way in the group has ended. */
  readonly serially: <T>(task: () => Promise<T>) => Promise<T>;
  /** Who is told what the store tells. */
  readonly listener: Omit<GroupStoreListener, 'stalled' | 'failed'>;
  /** It is open, and nobody has it yet. */
  readonly opened: () => Promise<void>;
  /** It is closed to be opened anew: the session ends, and what is known of its points counts no more. It is still there. */
  readonly leaving: (why: string) => Promise<void>;
  /** Nobody can ask for it any more: what is made of it is dropped. */
  readonly left: (why: string) => Promise<void>;
  /** Something is there that the catalogue does not know yet. */
  readonly changed: () => void;
}

export class HeldStore {
  readonly #parts: HeldStoreParts;
  readonly #reopening: Reopening;
  #store: GroupStore | null = null;
  #trouble: string | null = null;
  #isOpening = false;
  /** Opened for readers alone. */
  #isQuiet = false;
  /** Of the store that was closed to be opened anew; null once that has been done. */
  #knownDurable: NonNullable<GroupStoreOptions['knownDurable']> | null = null;

  constructor(parts: HeldStoreParts) {
    this.#parts = parts;
    this.#reopening = new Reopening(parts.around.platform.clock);
  }

  get store(): GroupStore | null {
    return this.#store;
  }

  /** Why there is no storage although there should be, or why its agent is not let in although there is. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** What an earlier run, or an earlier store, has left is being read: that takes as long as the journal is long. */
  get isOpening(): boolean {
    return this.#isOpening;
  }

  /** Opens it, and makes it when it is missing. Throws what openGroupStore throws. */
  async open(): Promise<GroupStore> {
    const { around, directory, isClosing, name, tell } = this.#parts;
    const store = await around.openStore(around.platform, {
      ...around.storage,
      directory,
      group: name,
      hubId: around.identity.hubId,
      log: loggerOf(tell),
      isGivenUp: isClosing,
      isQuiet: () => this.#isQuiet,
      ...(this.#knownDurable === null ? {} : { knownDurable: this.#knownDurable }),
    });
    store.listener = this.#listening(store);
    this.#store = store;
    return store;
  }

  /** Opens and recovers what is there. Never throws: what cannot be opened has its `trouble`. `quiet`: why it is for readers alone. */
  async recover(quiet: string | null = null): Promise<void> {
    const { name, opened, tell } = this.#parts;
    this.#isOpening = true;
    this.#isQuiet = quiet !== null;
    try {
      const store = await this.open();
      if (store.isBlank) {
        this.#trouble = null;
        await this.closeIfBlank();
        return;
      }
      await opened();
      this.#trouble = quiet;
      this.#knownDurable = null;
      this.#reopening.opened();
      const { lastNumber, durableNumber, consistentNumber, corrupted } = store.state;
      tell(corrupted === null ? 'info' : 'error', 'group-recovered', corrupted ?? `group ${name} is open`, {
        seq: lastNumber,
        durableSeq: durableNumber,
        consistentSeq: consistentNumber,
      });
    } catch (thrown) {
      const store = this.#store;
      this.#store = null;
      await store?.close({ drain: false }).catch(() => undefined);
      this.#notOpened(thrown);
    } finally {
      this.#isOpening = false;
    }
  }

  /** What was opened for an agent that got no further, or for a seed that came to nothing, is no group. Never throws. */
  async closeIfBlank(): Promise<void> {
    const store = this.#store;
    if (store === null || !store.isBlank || !store.isTrusted) return;
    this.#store = null;
    await store.close({ drain: false }).catch((thrown: unknown) => {
      this.#parts.tell('warn', 'close-failed', asError(thrown).message);
    });
    store.listener = null;
  }

  /** It is not opened again by itself any more; what is being read for that is given up. */
  stop(): void {
    this.#reopening.cancel();
    this.#store?.stopSeeding();
  }

  /** For good. With `drain` the base images hold the last point then. Throws the first failure, having done the rest. */
  async close(drain: boolean, why: string): Promise<void> {
    const store = this.#store;
    if (store === null) return;
    const failure = await this.#letGo(store, 'closed', { drain, why });
    if (failure !== null) throw failure;
  }

  /** What the others do when they hear it is no concern of the storage: what they throw ends here. */
  #listening(store: GroupStore): GroupStoreListener {
    const { faults, listener } = this.#parts;
    const doing = 'hearing of its storage';
    const progressed = (received: number, durable: number): void => {
      // No closure: it is called with every write and sync of the journal.
      try {
        listener.progressed(received, durable);
      } catch (thrown) {
        faults.caught(doing, thrown);
      }
    };
    return {
      progressed,
      stalled: () => {
        const { receivedNumber, durableNumber } = store.progress;
        progressed(receivedNumber, durableNumber);
      },
      congested: (now) => {
        faults.wall(doing, () => {
          listener.congested(now);
        });
      },
      failed: (fault) => {
        faults.wall(doing, () => {
          this.#failed(store, fault);
        });
      },
    };
  }

  #failed(store: GroupStore, fault: Fault): void {
    const { receivedNumber, durableNumber } = store.progress;
    this.#parts.listener.progressed(receivedNumber, durableNumber);
    const { cause } = fault;
    if (!(cause instanceof Fault) || !isJournalDamage(cause)) return;
    const { faults, serially } = this.#parts;
    faults.wallLater('opening it anew', () => serially(() => this.#openAnew(store, cause)));
  }

  async #openAnew(store: GroupStore, damage: Fault): Promise<void> {
    const { changed, isClosing, name, tell } = this.#parts;
    if (store !== this.#store || isClosing()) return;
    const isTrusted = (): boolean => store.isTrusted;
    if (!isTrusted()) {
      const said = `group ${name} is not opened anew: the disk has failed to write or sync its journal`;
      tell('error', 'group-failed', `${said}; a restart of the hub is needed once that is mended`);
      return;
    }
    this.#isOpening = true;
    try {
      await this.#changeStore(store, damage);
    } finally {
      this.#isOpening = false;
    }
    changed();
  }

  async #changeStore(store: GroupStore, damage: Fault): Promise<void> {
    const { isClosing, leaving, name, tell } = this.#parts;
    const { line, durableNumber } = store.state;
    if (line !== null) this.#knownDurable = { line: line.id, number: durableNumber };
    const pauseMs = this.#reopening.damaged(() => {
      this.#endQuiet();
    });
    const how = pauseMs === 0 ? '' : `, for readers alone for ${Math.ceil(pauseMs / 1000)} s`;
    const why = `group ${name} is closed, and opened anew${how}: ${damage.message}`;
    tell('error', 'group-reopening', why, { code: damage.code, pauseMs });
    await leaving(why);
    const trouble = `${damage.code}: ${why}`;
    const failure = await this.#letGo(store, trouble, { drain: false, why });
    if (failure !== null) this.#notOpened(failure);
    else if (!store.isTrusted)
      this.#notOpened(new StorageFault('journal-failed', 'its journal failed as it was closed'));
    else if (!isClosing()) await this.recover(pauseMs === 0 ? null : trouble);
  }

  /** The agent is let in, and folding goes on. */
  #endQuiet(): void {
    const { faults, isClosing, name, tell } = this.#parts;
    const store = this.#store;
    // Where it could not be opened, the next opening is no quiet one.
    if (isClosing() || store === null || !this.#isQuiet) return;
    this.#isQuiet = false;
    this.#trouble = null;
    tell('info', 'group-goes-on', `group ${name} takes its agent, and folds, again`);
    faults.wallLater('going on', () => store.lookAtRoom());
  }

  /** Whoever uses it lets go, and it is closed. Returns the first failure. */
  async #letGo(
    store: GroupStore,
    trouble: string,
    how: { readonly drain: boolean; readonly why: string },
  ): Promise<Error | null> {
    this.#store = null;
    this.#trouble = trouble;
    await this.#parts.left(how.why);
    try {
      await store.close(how);
      return null;
    } catch (thrown) {
      return asError(thrown);
    } finally {
      store.listener = null;
    }
  }

  #notOpened(thrown: unknown): void {
    const { isClosing, name, tell } = this.#parts;
    const error = asError(thrown);
    const before = this.#trouble;
    this.#trouble = `${thrown instanceof Fault ? thrown.code : 'internal-error'}: ${error.message}`;
    if (isClosing()) return;
    const againMs = this.#reopening.failed(thrown, () => this.#tryAgainSoon());
    if (this.#trouble === before) return;
    const then =
      againMs === null ? 'a restart of the hub is needed once that is mended' : 'it is tried again by itself';
    tell('error', 'group-failed', `group ${name} cannot be opened: ${error.message}; ${then}`);
  }

  #tryAgainSoon(): void {
    this.#parts.faults.wallLater('opening it again', () => this.#tryAgain());
  }

  async #tryAgain(): Promise<void> {
    const { changed, isClosing, serially } = this.#parts;
    await serially(async () => {
      if (isClosing() || this.#store !== null) return;
      await this.recover();
      changed();
    });
  }
}
