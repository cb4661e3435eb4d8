/**
 * The seat of a group's one agent: who may take it, who holds it, what was heard from there.
 *
 * Always holds:
 *  - one session at most writes to the storage: a newer one of the same agent ends the older one before it is
 *    told what the storage holds; another agent changes nothing;
 *  - who owns the group, and on which line, is durable before its first record is taken;
 *  - handshakes take effect one after the other, never at once.
 * Must not know: NBD, tests, what an operator may ask.
 */
import { type Clock, ConfigFault, type Fault, LinkFault, ProtocolFault, StorageFault } from '@rephub/platform';
import {
  type AgentReport,
  type Beat,
  type FrameHeader,
  type Hello,
  type KeptFinding,
  PAUSED_FAREWELL,
  type Verdict,
} from '@rephub/protocol';
import type { GroupCounters } from '../counters.js';
import type { Tell } from '../events/events.js';
import { admit, type Enrolment, newerOwner } from '../session/admission.js';
import type { AgentSession, Meeting, Refusal, SessionGroup } from '../session/session.js';
import { type GroupStore, type Owner, probeGrown } from '../storage/index.js';
import { VerifyWatch } from '../verify/verify-watch.js';
import type { HeardBefore } from './group-status.js';
import { type Heard, HeardFile } from './heard-file.js';
import type { HeldStore } from './held-store.js';
import { enrolmentPath, readEnrolment, removeEnrolment, writeEnrolment } from './enrolment-file.js';
import { LastReport } from './last-report.js';
import type { OwnFaults } from './own-faults.js';
import { Parting } from './parting.js';
import type { GroupSurroundings } from './surroundings.js';
import { tellResized } from './tell-resized.js';
import { presentedGroup, seedConflict, welcomeFor } from './welcome.js';

/** Of a session, what is needed here. */
export type SeatedSession = Pick<
  AgentSession,
  | 'peer'
  | 'isRunning'
  | 'isPaused'
  | 'hasBegun'
  | 'farewell'
  | 'hasHashes'
  | 'request'
  | 'readRegion'
  | 'progressed'
  | 'congested'
  | 'end'
>;

export interface SeatParts {
  readonly name: string;
  /** DATA/groups/GROUP */
  readonly directory: string;
  readonly around: Pick<GroupSurroundings, 'platform' | 'identity' | 'software' | 'times' | 'toldSoFar'>;
  readonly tell: Tell;
  readonly counters: GroupCounters;
  readonly faults: OwnFaults;
  readonly storage: Pick<HeldStore, 'store' | 'open' | 'trouble' | 'isOpening' | 'closeIfBlank'>;
  readonly isClosing: () => boolean;
  readonly isBeingSeeded: () => boolean;
  /** Runs the task when all that is under way in the group has ended. */
  readonly serially: <T>(task: () => Promise<T>) => Promise<T>;
  /** Something is there that the catalogue does not know yet. */
  readonly changed: () => void;
}

/** Somebody has to stop the group's own agent first. */
const OWNER_RETRY_MS = 1000;
const OPENING_RETRY_MS = 1000;
const SEED_RETRY_MS = 60_000;

export class AgentSeat implements SessionGroup {
  readonly last: LastReport;
  readonly #parts: SeatParts;
  readonly #verifications: VerifyWatch;
  readonly #parting: Parting;
  #session: SeatedSession | null = null;
  /** Whose handshake is under way, or who is in session. */
  #candidate: Owner | null = null;
  /** What that one was welcomed with. */
  #welcomedBy: GroupStore | null = null;
  readonly #heardFile: HeardFile;
  #heardBefore: { readonly heard: Heard; readonly recoveredMs: number; readonly recoveredUnixMs: number } | null = null;
  #enrolment: Enrolment | null = null;
  #mode: AgentReport['mode'] | null = null;
  #farewell: string | null = null;
  #announced: Hello['volumes'] | null = null;

  constructor(parts: SeatParts) {
    this.#parts = parts;
    this.last = new LastReport(parts.around.platform.clock, parts.around.times.heartbeatMs);
    this.#verifications = new VerifyWatch(parts.name, parts.tell, parts.around.toldSoFar, parts.counters);
    this.#parting = new Parting(parts.tell);
    this.#heardFile = new HeardFile(parts.around.platform.files, parts.directory);
  }

  /** What an operator said, and what the agent told, before the hub was started. */
  async recover(): Promise<void> {
    this.#enrolment = await readEnrolment(this.#files, enrolmentPath(this.#parts.directory));
    const heard = await this.#heardFile.read();
    const recovered = { recoveredMs: this.#clock.monotonicMs(), recoveredUnixMs: this.#clock.unixMs() };
    this.#heardBefore = heard === null ? null : { heard, ...recovered };
  }

  /** What an agent told an earlier run of the hub, and still holds of the newest point; null when it tells nothing. */
  get heardBefore(): HeardBefore | null {
    const state = this.#parts.storage.store?.state;
    if (this.#heardBefore === null || state === undefined) return null;
    const { heard, recoveredMs, recoveredUnixMs } = this.#heardBefore;
    if (state.line?.id !== heard.line || (state.consistentNumber ?? -1) < heard.number) return null;
    // A wall clock that was set back while the hub was down makes nothing younger than it was.
    const ageThenMs = Math.max(recoveredUnixMs, heard.writtenUnixMs) - heard.sinceUnixMs;
    const sinceThenMs = this.#clock.monotonicMs() - recoveredMs;
    return { sinceUnixMs: heard.sinceUnixMs, ageMs: Math.max(0, ageThenMs) + sinceThenMs };
  }

  /**
   * The storage is closed, to be opened anew: its points may be older then, and what was told of those that are there counts
   * no more, as after a restart of the hub (RPO). Never throws.
   */
  async storageLeaves(why: string): Promise<void> {
    await this.remember();
    this.#session?.end(why);
    this.last.forget();
  }

  /** Keeps what the agent has told for the next run of the hub. Never throws. */
  async remember(): Promise<void> {
    try {
      await this.#remember();
    } catch (thrown) {
      this.#parts.faults.caught('noting what the agent has told', thrown);
    }
  }

  async #remember(): Promise<void> {
    const before = this.heardBefore;
    const ofBeforeMs = before === null ? null : this.#clock.monotonicMs() - before.ageMs;
    const since = this.last.exposedSinceMs ?? ofBeforeMs;
    const state = this.#parts.storage.store?.state;
    const line = state?.line ?? null;
    const point = state?.consistentNumber ?? null;
    if (since === null || state === undefined || line === null || point === null) return;
    const number = Math.min(point, state.durableNumber);
    await this.#heardFile.write(this.#clock, since, { line: line.id, number });
  }

  /** Whoever is there, from its handshake on. */
  get session(): SeatedSession | null {
    return this.#session;
  }

  get mode(): AgentReport['mode'] | null {
    return this.#mode;
  }

  /** What the last agent that would have been let in said of its volumes; null when none came since the hub's start. */
  get announced(): Hello['volumes'] | null {
    return this.#announced;
  }

  /** Why the agent has left in order; null while it is there, and when it went without a word. */
  get farewell(): string | null {
    return this.#farewell;
  }

  /** What parts the agent's line from the group's, while something does. */
  get divergence(): Parting['current'] {
    return this.#parting.current;
  }

  /** Throws `agent-not-connected`. */
  connected(): SeatedSession {
    if (this.#session?.isRunning === true) return this.#session;
    const isPaused = this.#farewell === PAUSED_FAREWELL;
    const why = isPaused ? 'was paused by its operator: `repagent resume` lets it go on' : 'is not connected';
    throw new LinkFault('agent-not-connected', `the agent of group ${this.#parts.name} ${why}`);
  }

  /** Throws `agent-not-connected`, `agent-too-old`. */
  connectedWithHashes(): SeatedSession {
    const session = this.connected();
    if (session.hasHashes) return session;
    const { name } = this.#parts;
    throw new LinkFault('agent-too-old', `the agent of group ${name} cannot compare by checksum: it is too old`);
  }

  meet(session: SeatedSession, hello: Hello): Promise<Meeting | Refusal> {
    const { around, isBeingSeeded, isClosing, name, serially, storage } = this.#parts;
    // Handshakes wait their turn, but not for that.
    if (isBeingSeeded()) {
      return Promise.resolve(refusal(new LinkFault('being-seeded', `group ${name} is being seeded`), 5000));
    }
    if (storage.isOpening) {
      const why = storage.trouble ?? `group ${name} is being opened`;
      return Promise.resolve(refusal(new StorageFault('group-failed', why), OPENING_RETRY_MS));
    }
    return serially(async () => {
      const store = this.#parts.storage.store;
      const trouble = this.#parts.storage.trouble;
      if (isClosing()) return refusal(new LinkFault('hub-stopping', 'the hub stops'), 1000);
      if (trouble !== null) return refusal(new StorageFault('group-failed', trouble), 10_000);
      const admission = admit(hello, newerOwner(store?.state.owner ?? null, this.#candidate), this.#enrolment);
      if (admission.kind === 'refuse') {
        return refusal(new ProtocolFault(admission.code, admission.message), admission.retryAfterMs);
      }
      if (admission.kind === 'take-over' && this.#candidate?.agentId === admission.from) {
        const why = `group ${name} is to be taken over from agent ${admission.from}, which is connected: stop that one first`;
        return refusal(new ProtocolFault('owner-connected', why), OWNER_RETRY_MS);
      }
      const seeds = store?.state.seeds ?? [];
      this.#announced = hello.volumes;
      // Once volumes are told they have their seeds, and may grow, or go.
      const areBound = (store?.state.volumes.length ?? 0) > 0;
      const conflict = areBound ? null : seedConflict(seeds, hello.volumes);
      if (conflict !== null)
        return refusal(new ConfigFault('seed-differs', `${conflict}; ${seedHint(name)}`), SEED_RETRY_MS);
      this.#session?.end('a newer session of the same agent has taken over');
      this.#session = session;
      this.#welcomedBy = store;
      this.last.met();
      this.#candidate = { agentId: hello.agentId, session: hello.session, nonce: hello.nonce };
      this.#mode = hello.mode;
      try {
        await store?.settled();
        const known = store?.toHubGroup() ?? null;
        const exposedMs = known?.owner === hello.agentId ? this.last.exposedMs : null;
        const presented = presentedGroup(known, hello, admission);
        return { welcome: welcomeFor(around, hello, presented, seeds.length > 0, exposedMs), group: this };
      } catch (thrown) {
        // A session that is told no more never tells that it is over.
        this.over(session, null);
        throw thrown;
      }
    });
  }

  begin(session: SeatedSession, hello: Hello, verdict: Verdict): Promise<GroupStore | Refusal> {
    const { serially, storage } = this.#parts;
    return serially(() => this.#begin(session, hello, verdict).finally(() => storage.closeIfBlank()));
  }

  async #begin(session: SeatedSession, hello: Hello, verdict: Verdict): Promise<GroupStore | Refusal> {
    const { counters, directory, isClosing, name, storage, tell } = this.#parts;
    if (this.#session !== session || isClosing()) {
      return refusal(new LinkFault('session-replaced', 'a newer session has taken over'), 1000);
    }
    // What Welcome said of a store need not hold of the next one.
    if (storage.store !== this.#welcomedBy) {
      const why = storage.trouble ?? `group ${name} was opened anew during the handshake`;
      return refusal(new StorageFault('group-failed', why), OPENING_RETRY_MS);
    }
    this.last.began();
    this.#farewell = null;
    const owner = this.#candidate;
    if (owner === null) return refusal(new LinkFault('session-replaced', 'the session has ended'), 1000);
    const found = storage.store;
    const tooBig = await probeGrown(this.#files, directory, found?.state.volumes ?? [], hello.volumes);
    if (tooBig !== null) return refusal(tooBig, 60_000);
    const before = found?.state.owner ?? null;
    const store = found ?? (await storage.open());
    // The line first: dying between the two, the group is still the old owner's and the enrolment stands.
    if (store.state.line?.id !== hello.line.id) await store.beginLine(hello.line);
    // A resync may be what comes first.
    await store.lookAtRoom();
    if (before?.agentId !== owner.agentId || before.session !== owner.session || before.nonce !== owner.nonce) {
      await store.setOwner(owner);
    }
    if (before !== null && before.agentId !== owner.agentId) await this.#tookOver(before, owner);
    else if (this.#enrolment !== null) await this.#void(`agent ${owner.agentId}, which was to be replaced, is back`);
    if (found === null) tell('info', 'group-created', `group ${name} is new`, { agent: owner.agentId });
    counters.sessions += 1;
    tell('info', 'session-began', `${verdict.kind} (${verdict.row}): ${verdict.reason}`, {
      peer: session.peer,
      verdict: verdict.kind,
      row: verdict.row,
      session: owner.session,
    });
    if (hello.changedBehind !== undefined) {
      tell(
        'error',
        'changed-behind',
        `a disk of ${name} was changed without its agent; all is compared now: ${hello.changedBehind}`,
      );
    }
    this.#parts.changed();
    if (store.state.wantsComparison && verdict.kind !== 'compare-everything' && verdict.kind !== 'first-sync') {
      session.request(session.hasHashes ? 'resync-compare' : 'resync-full');
    }
    return store;
  }

  resized(index: number, sizeBytes: number): void {
    tellResized(this.#parts.tell, this.#parts.storage.store?.state.volumes ?? [], index, sizeBytes);
  }

  concluded(verdict: Verdict): void {
    this.#parting.concluded(verdict);
  }

  beat(session: SeatedSession, beat: Beat): void {
    if (session !== this.#session || beat.report === null) return;
    this.last.told(beat, beat.report);
    this.#verifications.heard(beat.report);
  }

  get kept(): readonly KeptFinding[] {
    return this.#verifications.kept;
  }

  record(header: FrameHeader, raw: readonly Buffer[]): void {
    this.#parts.counters.took(header, raw);
  }

  acknowledged(): void {
    this.#parts.counters.acks += 1;
  }

  over(session: SeatedSession, fault: Fault | null): void {
    if (session !== this.#session) return;
    this.#session = null;
    this.#candidate = null;
    // A handshake that came to nothing is counted and told by the hub, which sees how often it happens.
    if (!session.hasBegun) return;
    this.#farewell = session.farewell;
    void this.remember();
    const orderly = session.farewell === null ? 'the session was ended' : `the agent has left: ${session.farewell}`;
    this.#parts.tell(fault === null ? 'info' : 'warn', 'session-ended', fault?.message ?? orderly, {
      code: fault?.code ?? null,
      peer: session.peer,
    });
  }

  /**
   * The next unknown agent takes the group over, as soon as its own agent is not connected; void when that one comes back
   * before. Durable when it resolves. Throws `not-owned`.
   */
  enroll(): Promise<void> {
    const { directory, name, serially, tell } = this.#parts;
    return serially(async () => {
      const owner = this.#parts.storage.store?.state.owner ?? null;
      if (owner === null) {
        throw new ConfigFault('not-owned', `group ${name} belongs to no agent yet: the first one that comes takes it`);
      }
      const enrolment = { replaces: owner.agentId };
      await writeEnrolment(this.#files, enrolmentPath(directory), enrolment);
      this.#enrolment = enrolment;
      tell('warn', 'enrolled', `the next unknown agent takes group ${name} over`, { from: owner.agentId });
    });
  }

  /** The operator's word is taken back; harmless when there is none. */
  disenroll(): Promise<void> {
    return this.#parts.serially(async () => {
      if (this.#enrolment !== null) await this.#void('taken back by the operator');
    });
  }

  /** An operator has said that the next unknown agent takes the group over. */
  get isEnrolled(): boolean {
    return this.#enrolment !== null;
  }

  async #void(why: string): Promise<void> {
    const { name, tell } = this.#parts;
    await this.#forgetEnrolment();
    tell('info', 'enrolment-void', `nobody may take group ${name} over any more: ${why}`);
  }

  async #forgetEnrolment(): Promise<void> {
    await removeEnrolment(this.#files, enrolmentPath(this.#parts.directory));
    this.#enrolment = null;
  }

  async #tookOver(before: Owner, owner: Owner): Promise<void> {
    const { name, tell } = this.#parts;
    this.last.forget();
    this.#heardBefore = null;
    await this.#heardFile.remove();
    await this.#forgetEnrolment();
    tell('warn', 'owner-changed', `agent ${owner.agentId} has taken group ${name} over`, {
      from: before.agentId,
      to: owner.agentId,
    });
  }

  get #clock(): Clock {
    return this.#parts.around.platform.clock;
  }

  get #files(): GroupSurroundings['platform']['files'] {
    return this.#parts.around.platform.files;
  }
}

/** What leads on from here; the agent comes back by itself, and begins with what it finds then. */
function seedHint(group: string): string {
  const forget = `'rephub forget ${group} --yes' takes the seeds away, the right ones can be put in place then`;
  return `${forget}; the agent asks again every ${SEED_RETRY_MS / 1000} s, at once after 'repagent resume'`;
}

function refusal(refused: Fault, retryAfterMs: number | null): Refusal {
  return { refused, retryAfterMs };
}
