/**
 * One group: its storage, its agent, its tests and its open points, behind a face that takes and gives
 * plain data, so that a group can move to a thread of its own.
 *
 * Always holds:
 *  - handshakes and an operator's words take effect one after the other, never at once;
 *  - what goes wrong here (a damaged journal, a full disk, a bug) shows in this group's status and nowhere else.
 */
import { asError, InTurn, randomUuid, StorageFault } from '@rephub/platform';
import type { OpenExport, OpenRefusal } from '@rephub/nbd';
import { surveySegments } from '../catalogue/survey.js';
import type { ExportName } from '../exports/export-names.js';
import { GroupCounters } from '../counters.js';
import { type Tell } from '../events/events.js';
import type { RegionAnswer } from '../session/remote-reads.js';
import type { GroupStore, Seed } from '../storage/index.js';
import { AgentSeat } from './agent-seat.js';
import { openGroupExport } from './group-exports.js';
import { type GroupStatus, groupStatus, type TestStatus, unknownStatus } from './group-status.js';
import { HeldStore } from './held-store.js';
import { OpenTests, type OpenTestRequest } from './open-tests.js';
import { OwnFaults } from './own-faults.js';
import { readVolumeRegion, type RegionOrder } from './region-order.js';
import { Seeding } from './seeding.js';
import { SharedViews } from './shared-views.js';
import type { GroupSurroundings } from './surroundings.js';

export class Group {
  readonly name: string;
  readonly counters = new GroupCounters();
  readonly agent: AgentSeat;
  readonly tests: OpenTests;
  readonly views: SharedViews;
  readonly faults: OwnFaults;
  readonly #around: GroupSurroundings;
  readonly #directory: string;
  readonly #tell: Tell;
  readonly #held: HeldStore;
  #closing = false;
  readonly #seeding = new Seeding();
  readonly #inTurn = new InTurn();
  readonly #notes = new InTurn();
  #noteIsDue = false;
  /** Handshakes and the like that are under way or wait for their turn. */
  #underWay = 0;

  constructor(name: string, directory: string, around: GroupSurroundings, tell: Tell) {
    this.name = name;
    this.#directory = directory;
    this.#around = around;
    this.#tell = tell;
    this.faults = new OwnFaults(around.platform.clock, tell);
    this.#held = new HeldStore({
      name,
      directory,
      around,
      tell,
      faults: this.faults,
      isClosing: () => this.#closing,
      serially: (task) => this.#inTurn.run(task),
      listener: {
        progressed: () => this.agent.session?.progressed(),
        congested: (now) => {
          const { session } = this.agent;
          if (session?.isRunning === true) session.congested(now);
        },
      },
      opened: () => this.agent.recover(),
      leaving: (why) => this.agent.storageLeaves(why),
      left: async (why) => {
        await this.tests
          .dropAll(why)
          .catch((cause: unknown) => tell('error', 'test-drop-failed', asError(cause).message));
      },
      changed: () => {
        this.noteSoon();
      },
    });
    this.agent = new AgentSeat({
      name,
      directory,
      around,
      tell,
      counters: this.counters,
      faults: this.faults,
      storage: this.#held,
      isClosing: () => this.#closing,
      isBeingSeeded: () => this.#seeding.isUnderWay,
      serially: (task) => this.#serially(task),
      changed: () => {
        this.noteSoon();
      },
    });
    this.tests = new OpenTests({
      group: name,
      clock: around.platform.clock,
      tell,
      note: (entry) => around.catalogue.test(entry),
    });
    this.views = new SharedViews((cause) => tell('error', 'view-close-failed', String(cause)));
  }

  /** Opens and recovers what an earlier run left. Never throws: a group that cannot be opened says so in its status. */
  async recover(): Promise<void> {
    await this.#held.recover();
  }

  /** Nothing is known of it but its name: an agent has asked, and has not begun. */
  get isVacant(): boolean {
    return this.store === null && this.trouble === null;
  }

  /**
   * Vacant, and nobody is about to change that: its agent may have gone while the storage that it asked for is being made, and
   * a second group of this name would open the same directory once more.
   */
  get isIdleVacant(): boolean {
    return this.isVacant && this.agent.session === null && this.#underWay === 0;
  }

  get store(): GroupStore | null {
    return this.#held.store;
  }

  get trouble(): string | null {
    return this.#held.trouble;
  }

  /** Never throws: a bug here must not keep the other groups' status from being told. */
  status(): GroupStatus {
    try {
      return this.#status();
    } catch (thrown) {
      this.faults.caught('telling its status', thrown);
      return unknownStatus(this.name, `internal-error: ${this.faults.newest ?? 'unknown'}`, this.counters.received);
    }
  }

  #status(): GroupStatus {
    return groupStatus({
      name: this.name,
      store: this.store?.state ?? null,
      trouble: this.trouble,
      ownFault: this.faults.newest,
      connected: this.agent.session?.isRunning ?? false,
      farewell: this.agent.farewell,
      mode: this.agent.mode,
      report: this.agent.last.report,
      silentMs: this.agent.last.silentMs,
      unheardMs: this.agent.last.unheardMs,
      heardBefore: this.agent.heardBefore,
      unixMs: this.#around.platform.clock.unixMs(),
      heartbeatMs: this.#around.times.heartbeatMs,
      timeoutMs: this.#around.times.timeoutMs,
      paused: this.agent.session?.isPaused ?? false,
      tests: this.tests.statuses(),
      received: this.counters.received,
      divergence: this.agent.divergence,
      enrolled: this.agent.isEnrolled,
    });
  }

  /** Opens one of its exports for an NBD client. */
  async openExport(
    name: Exclude<ExportName, { readonly kind: 'wrong' }>,
    fullName: string,
  ): Promise<OpenExport | OpenRefusal> {
    return await openGroupExport(this, name, fullName);
  }

  // What an operator asks.

  async openTest(request: OpenTestRequest): Promise<TestStatus> {
    const test = await this.tests.open(this.#openedStore(), request);
    this.counters.testsOpened += 1;
    return test;
  }

  /** Throws: `agent-not-connected`, and what readVolumeRegion throws. */
  async readRegion(order: RegionOrder): Promise<RegionAnswer> {
    const { volumes } = this.#openedStore().state;
    this.counters.remoteReads += 1;
    return await readVolumeRegion(order, volumes, () => this.agent.connected());
  }

  /** The agent is asked to send all marked blocks again, or with `full` all blocks. Throws `agent-not-connected`. */
  requestResync(full: boolean, compare = false): void {
    if (compare) this.agent.connectedWithHashes().request('resync-compare');
    else this.agent.connected().request(full ? 'resync-full' : 'resync');
    const what = compare ? 'a comparison of everything' : full ? 'a full resync' : 'a resync';
    this.#tell('info', 'resync-requested', `an operator asked for ${what}`);
  }

  /**
   * The resync that has no room beside the last good point (`now`), or the next one should it have none (`later`), may
   * give that point up. The agent need not be connected: it comes back by itself. Throws `no-consistent-point`, `nothing-short`.
   */
  async allowDropLastGood(whenShort: 'now' | 'later'): Promise<void> {
    const store = this.#openedStore();
    await store.lookAtRoom();
    store.dropLastGood(whenShort);
    const message = 'an operator allowed a resync to give the last good point up for want of room';
    this.#tell('warn', 'drop-last-good-allowed', message, { consistentSeq: store.state.consistentNumber });
  }

  /**
   * Puts an image in place for a group without history, so that its first sync compares. Durable when it resolves. Throws
   * `has-history`, `seed-exists`, `seed-file`, `seed-differs`, `agent-connected`.
   */
  async seed(volume: string, path: string): Promise<Seed> {
    return await this.#seeding.seed(volume, path, {
      name: this.name,
      files: this.#around.platform.files,
      tell: this.#tell,
      serially: (work) => this.#serially(() => work().finally(() => this.#held.closeIfBlank())),
      hasSession: () => this.agent.session !== null || this.#closing,
      announced: () => this.agent.announced,
      store: async () => (this.trouble === null ? (this.store ?? (await this.#held.open())) : this.#openedStore()),
    });
  }

  /** The agent is asked to verify everything; the outcome is in the status, under the id that this returns. Throws `agent-not-connected`, `agent-too-old`. */
  requestVerify(): string {
    const id = randomUuid(this.#around.platform.randomness);
    this.agent.connectedWithHashes().request('verify', id);
    this.#tell('info', 'verify-requested', 'an operator asked for a verification');
    return id;
  }

  /** The next unknown agent takes the group over (see AgentSeat). Durable when it resolves. Throws `not-owned`. */
  enroll(): Promise<void> {
    return this.agent.enroll();
  }

  /** Takes that back; harmless when it was not said. */
  disenroll(): Promise<void> {
    return this.agent.disenroll();
  }

  /** Tells the catalogue what is there now. Throws what the survey meets. */
  note(): Promise<void> {
    // One after the other: an older survey must not be told after a newer one, or after the group was forgotten.
    return this.#notes.run(async () => {
      this.#noteIsDue = false;
      const { store } = this;
      if (store === null) return;
      const segments = await surveySegments(this.#around.platform.files, this.#directory);
      this.#around.catalogue.group(store.state, segments);
    });
  }

  /** The same, for nobody to wait for. */
  noteSoon(): void {
    if (this.#noteIsDue || this.#closing) return;
    this.#noteIsDue = true;
    this.note().catch((thrown: unknown) => {
      // Files come and go under the survey; the next one sees what is left.
      if (!this.#closing) this.#tell('warn', 'survey-failed', asError(thrown).message);
    });
  }

  endSession(reason: string): void {
    this.#closing = true;
    this.#held.stop();
    this.agent.session?.end(reason);
  }

  /** Ends the session, drops the tests, closes the storage; with `drain` the base images hold the last point then. */
  async close(drain: boolean, why = 'the hub stops'): Promise<void> {
    this.endSession(why);
    await this.#inTurn.run(async () => {
      await this.agent.remember();
      await this.note().catch(() => undefined);
      await this.#held.close(drain, why);
    });
  }

  async #serially<T>(task: () => Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await this.#inTurn.run(task);
    } finally {
      this.#underWay -= 1;
    }
  }

  #openedStore(): GroupStore {
    if (this.store !== null) return this.store;
    throw new StorageFault('group-failed', `group ${this.name} is not open: ${this.trouble ?? 'it is new'}`);
  }
}
