/**
 * One group: its storage, its one session, its tests and its open points, behind a face that takes and gives
 * plain data, so that a group can move to a thread of its own.
 *
 * Always holds:
 *  - one session at most writes to the storage: a newer one of the same agent ends the older one before it is
 *    told what the storage holds; another agent changes nothing;
 *  - handshakes and an operator's words take effect one after the other, never at once;
 *  - what goes wrong here (a damaged journal, a full disk) shows in this group's status and nowhere else.
 */
import {
  asError,
  ConfigFault,
  Fault,
  LinkFault,
  type Platform,
  ProtocolFault,
  randomUuid,
  StorageFault,
} from '@rephub/platform';
import type { OpenExport, OpenRefusal } from '@rephub/nbd';
import type { AgentReport, Beat, FrameHeader, Hello, Verdict } from '@rephub/protocol';
import { surveySegments } from '../catalogue/survey.js';
import type { Catalogue } from '../catalogue/catalogue.js';
import type { ExportName } from '../exports/export-names.js';
import { GroupCounters } from '../hub/counters.js';
import { loggerOf, type Tell } from '../hub/events.js';
import type { HubIdentity } from '../hub/identity.js';
import { admit, type Enrolment, newerOwner } from '../session/admission.js';
import type { RegionAnswer } from '../session/remote-reads.js';
import type { AgentSession, Meeting, Refusal, SessionGroup } from '../session/session.js';
import { type GroupStore, type GroupStoreOptions, type Owner, probeGrown, type Seed } from '../storage/index.js';
import { enrolmentPath, readEnrolment, removeEnrolment, writeEnrolment } from './enrolment-file.js';
import { openGroupExport } from './group-exports.js';
import { type GroupStatus, groupStatus, type TestStatus } from './group-status.js';
import { LastReport } from './last-report.js';
import { Parting } from './parting.js';
import { VerifyWatch } from '../verify/verify-watch.js';
import { OpenTests, type OpenTestRequest } from './open-tests.js';
import { readVolumeRegion, type RegionOrder } from './region-order.js';
import { Seeding } from './seeding.js';
import { SharedViews } from './shared-views.js';
import { tellResized } from './tell-resized.js';
import { presentedGroup, seedConflict, welcomeFor } from './welcome.js';

export type OpenStore = (
  platform: Pick<Platform, 'clock' | 'randomness' | 'files' | 'codecs'>,
  options: GroupStoreOptions,
) => Promise<GroupStore>;

/** What all groups of a hub have in common. */
export interface GroupSurroundings {
  readonly platform: Platform;
  readonly identity: HubIdentity;
  readonly software: string;
  readonly times: { readonly heartbeatMs: number; readonly timeoutMs: number };
  readonly storage: Pick<
    GroupStoreOptions,
    'retentionMs' | 'indexBytes' | 'journalMaxBytes' | 'reserveBytes' | 'segmentBytes'
  >;
  readonly openStore: OpenStore;
  readonly catalogue: Catalogue;
}

export class Group implements SessionGroup {
  readonly name: string;
  readonly counters = new GroupCounters();
  readonly tests: OpenTests;
  readonly views: SharedViews;
  readonly #around: GroupSurroundings;
  readonly #directory: string;
  readonly #tell: Tell;
  readonly #verifications: VerifyWatch;
  readonly #parting: Parting;
  #store: GroupStore | null = null;
  /** Why there is no storage although there should be. */
  #trouble: string | null = null;
  #session: AgentSession | null = null;
  /** Whose handshake is under way, or who is in session. */
  #candidate: Owner | null = null;
  #enrolment: Enrolment | null = null;
  #mode: AgentReport['mode'] | null = null;
  readonly #agent: LastReport;
  #closing = false;
  readonly #seeding = new Seeding();
  #last: Promise<unknown> = Promise.resolve();

  constructor(name: string, directory: string, around: GroupSurroundings, tell: Tell) {
    this.name = name;
    this.#directory = directory;
    this.#around = around;
    this.#tell = tell;
    this.#verifications = new VerifyWatch(name, tell);
    this.#parting = new Parting(tell);
    this.#agent = new LastReport(around.platform.clock, around.times.heartbeatMs);
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
    try {
      const store = await this.#openStore();
      this.#enrolment = await readEnrolment(this.#around.platform.files, enrolmentPath(this.#directory));
      const { lastNumber, durableNumber, consistentNumber, corrupted } = store.state;
      this.#tell(corrupted === null ? 'info' : 'error', 'group-recovered', corrupted ?? `group ${this.name} is open`, {
        seq: lastNumber,
        durableSeq: durableNumber,
        consistentSeq: consistentNumber,
      });
    } catch (thrown) {
      const error = asError(thrown);
      this.#trouble = `${thrown instanceof Fault ? thrown.code : 'internal-error'}: ${error.message}`;
      this.#tell('error', 'group-failed', `group ${this.name} cannot be opened: ${error.message}`);
    }
  }

  /** Nothing is known of it but its name: an agent has asked, and has not begun. */
  get isVacant(): boolean {
    return this.#store === null && this.#trouble === null;
  }

  /** Vacant, and nobody is about to change that. */
  get isIdleVacant(): boolean {
    return this.isVacant && this.#session === null;
  }

  get store(): GroupStore | null {
    return this.#store;
  }

  get trouble(): string | null {
    return this.#trouble;
  }

  status(): GroupStatus {
    return groupStatus({
      name: this.name,
      store: this.#store?.state ?? null,
      trouble: this.#trouble,
      connected: this.#session?.isRunning ?? false,
      mode: this.#mode,
      report: this.#agent.report,
      silentMs: this.#agent.silentMs,
      heartbeatMs: this.#around.times.heartbeatMs,
      timeoutMs: this.#around.times.timeoutMs,
      paused: this.#session?.isPaused ?? false,
      tests: this.tests.statuses(),
      received: this.counters.received,
      divergence: this.#parting.current,
    });
  }

  /** Opens one of its exports for an NBD client. */
  async openExport(
    name: Exclude<ExportName, { readonly kind: 'wrong' }>,
    fullName: string,
  ): Promise<OpenExport | OpenRefusal> {
    return await openGroupExport(this, name, fullName);
  }

  // What a session asks.

  meet(session: AgentSession, hello: Hello): Promise<Meeting | Refusal> {
    // Handshakes wait their turn, but not for that.
    if (this.#seeding.isUnderWay) {
      return Promise.resolve(refusal(new LinkFault('being-seeded', `group ${this.name} is being seeded`), 5000));
    }
    return this.#serially(async () => {
      if (this.#closing) return refusal(new LinkFault('hub-stopping', 'the hub stops'), 1000);
      if (this.#trouble !== null) return refusal(new StorageFault('group-failed', this.#trouble), 60_000);
      const admission = admit(hello, newerOwner(this.#store?.state.owner ?? null, this.#candidate), this.#enrolment);
      if (admission.kind === 'refuse') {
        return refusal(new ProtocolFault(admission.code, admission.message), admission.retryAfterMs);
      }
      const conflict = seedConflict(this.#store?.state.seeds ?? [], hello);
      if (conflict !== null) return refusal(new ConfigFault('seed-differs', conflict), 60_000);
      this.#session?.end('a newer session of the same agent has taken over');
      this.#session = session;
      this.#agent.met();
      this.#candidate = { agentId: hello.agentId, session: hello.session, nonce: hello.nonce };
      this.#mode = hello.mode;
      await this.#store?.settled();
      const known = this.#store?.toHubGroup() ?? null;
      return {
        welcome: welcomeFor(
          this.#around,
          hello,
          presentedGroup(known, hello, admission),
          (this.#store?.state.seeds ?? []).length > 0,
          known?.owner === hello.agentId ? this.#agent.exposedMs : null,
        ),
        group: this,
      };
    });
  }

  begin(session: AgentSession, hello: Hello, verdict: Verdict): Promise<GroupStore | Refusal> {
    return this.#serially(async () => {
      if (this.#session !== session || this.#closing) {
        return refusal(new LinkFault('session-replaced', 'a newer session has taken over'), 1000);
      }
      const owner = this.#candidate;
      if (owner === null) return refusal(new LinkFault('session-replaced', 'the session has ended'), 1000);
      const files = this.#around.platform.files;
      const tooBig = await probeGrown(files, this.#directory, this.#store?.state.volumes ?? [], hello.volumes);
      if (tooBig !== null) return refusal(tooBig, 60_000);
      const before = this.#store?.state.owner ?? null;
      const isNew = this.#store === null;
      const store = this.#store ?? (await this.#openStore());
      // The line first: dying between the two, the group is still the old owner's and the enrolment stands.
      if (store.state.line?.id !== hello.line.id) await store.beginLine(hello.line);
      // A resync may be what comes first.
      await store.lookAtRoom();
      if (before?.agentId !== owner.agentId || before.session !== owner.session || before.nonce !== owner.nonce) {
        await store.setOwner(owner);
      }
      if (before !== null && before.agentId !== owner.agentId) await this.#tookOver(before, owner);
      if (isNew) this.#tell('info', 'group-created', `group ${this.name} is new`, { agent: owner.agentId });
      this.counters.sessions += 1;
      this.#tell('info', 'session-began', `${verdict.kind} (${verdict.row}): ${verdict.reason}`, {
        peer: session.peer,
        verdict: verdict.kind,
        row: verdict.row,
        session: owner.session,
      });
      this.noteSoon();
      if (store.state.corrupted !== null && verdict.kind !== 'compare-everything' && verdict.kind !== 'first-sync') {
        session.request(session.hasHashes ? 'resync-compare' : 'resync-full');
      }
      return store;
    });
  }

  resized(index: number, sizeBytes: number): void {
    tellResized(this.#tell, this.#store?.state.volumes ?? [], index, sizeBytes);
  }

  concluded(verdict: Verdict): void {
    this.#parting.concluded(verdict);
  }

  beat(session: AgentSession, beat: Beat): void {
    if (session !== this.#session || beat.report === null) return;
    this.#agent.told(beat, beat.report);
    this.#verifications.seen(beat.report.verify);
    this.#verifications.sampled(beat.report.startSample);
  }

  record(header: FrameHeader): void {
    this.counters.took(header);
  }

  acknowledged(): void {
    this.counters.acks += 1;
  }

  over(session: AgentSession, fault: Fault | null): void {
    if (session !== this.#session) return;
    this.#session = null;
    this.#candidate = null;
    // A handshake that came to nothing is counted and told by the hub, which sees how often it happens.
    if (!session.hasBegun) return;
    this.#tell(fault === null ? 'info' : 'warn', 'session-ended', fault?.message ?? 'the agent said goodbye', {
      code: fault?.code ?? null,
      peer: session.peer,
    });
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
    return await readVolumeRegion(order, volumes, () => this.#connected());
  }

  /** The agent is asked to send all marked blocks again, or with `full` all blocks. Throws `agent-not-connected`. */
  requestResync(full: boolean, compare = false): void {
    if (compare) this.#connectedWithHashes().request('resync-compare');
    else this.#connected().request(full ? 'resync-full' : 'resync');
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
   * `has-history`, `seed-exists`, `seed-file`, `agent-connected`.
   */
  async seed(volume: string, path: string): Promise<Seed> {
    return await this.#seeding.seed(volume, path, {
      name: this.name,
      files: this.#around.platform.files,
      tell: this.#tell,
      serially: (work) => this.#serially(work),
      hasSession: () => this.#session !== null || this.#closing,
      store: async () => this.#store ?? (await this.#openStore()),
    });
  }

  /** The agent is asked to verify everything; the outcome is in the status, under the id that this returns. Throws `agent-not-connected`, `agent-too-old`. */
  requestVerify(): string {
    const id = randomUuid(this.#around.platform.randomness);
    this.#connectedWithHashes().request('verify', id);
    this.#tell('info', 'verify-requested', 'an operator asked for a verification');
    return id;
  }

  /** The next unknown agent takes the group over. Durable when it resolves. Throws `not-owned`. */
  enroll(): Promise<void> {
    return this.#serially(async () => {
      const owner = this.#store?.state.owner ?? null;
      if (owner === null) {
        throw new ConfigFault(
          'not-owned',
          `group ${this.name} belongs to no agent yet: the first one that comes takes it`,
        );
      }
      const enrolment = { replaces: owner.agentId };
      await writeEnrolment(this.#around.platform.files, enrolmentPath(this.#directory), enrolment);
      this.#enrolment = enrolment;
      this.#tell('warn', 'enrolled', `the next unknown agent takes group ${this.name} over`, { from: owner.agentId });
    });
  }

  /** Tells the catalogue what is there now. */
  async note(): Promise<void> {
    if (this.#store === null) return;
    const segments = await surveySegments(this.#around.platform.files, this.#directory);
    this.#around.catalogue.group(this.#store.state, segments);
  }

  /** The same, for nobody to wait for. */
  noteSoon(): void {
    this.note().catch((thrown: unknown) => {
      // Files come and go under the survey; the next one sees what is left.
      if (!this.#closing) this.#tell('warn', 'survey-failed', asError(thrown).message);
    });
  }

  endSession(reason: string): void {
    this.#closing = true;
    this.#session?.end(reason);
    this.#store?.stopSeeding();
  }

  /** Ends the session, drops the tests, closes the storage; with `drain` the base images hold the last point then. */
  async close(drain: boolean): Promise<void> {
    this.endSession('the hub stops');
    await this.#serially(async () => {
      await this.tests.close();
      const store = this.#store;
      if (store === null) return;
      await this.note().catch(() => undefined);
      this.#store = null;
      this.#trouble = 'closed';
      await store.close({ drain });
    });
  }

  async #openStore(): Promise<GroupStore> {
    const { platform, identity, storage } = this.#around;
    const store = await this.#around.openStore(platform, {
      ...storage,
      directory: this.#directory,
      group: this.name,
      hubId: identity.hubId,
      log: loggerOf(this.#tell),
    });
    store.listener = {
      progressed: () => this.#session?.progressed(),
      stalled: () => this.#session?.progressed(),
      congested: (now) => {
        if (this.#session?.isRunning === true) this.#session.congested(now);
      },
      failed: () => this.#session?.progressed(),
    };
    this.#store = store;
    return store;
  }

  async #tookOver(before: Owner, owner: Owner): Promise<void> {
    this.#agent.forget();
    this.#enrolment = null;
    await removeEnrolment(this.#around.platform.files, enrolmentPath(this.#directory));
    this.#tell('warn', 'owner-changed', `agent ${owner.agentId} has taken group ${this.name} over`, {
      from: before.agentId,
      to: owner.agentId,
    });
  }

  #openedStore(): GroupStore {
    if (this.#store !== null) return this.#store;
    throw new StorageFault('group-failed', `group ${this.name} is not open: ${this.#trouble ?? 'it is new'}`);
  }

  #connected(): AgentSession {
    if (this.#session?.isRunning === true) return this.#session;
    throw new LinkFault('agent-not-connected', `the agent of group ${this.name} is not connected`);
  }

  #connectedWithHashes(): AgentSession {
    const session = this.#connected();
    if (session.hasHashes) return session;
    throw new LinkFault('agent-too-old', `the agent of group ${this.name} cannot compare by checksum: it is too old`);
  }

  #serially<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#last.then(task, task);
    this.#last = run.catch(() => undefined);
    return run;
  }
}

function refusal(refused: Fault, retryAfterMs: number | null): Refusal {
  return { refused, retryAfterMs };
}
