/**
 * What is said of a group: its state, its reason and its figures, as a pure function of what the hub knows.
 * The shape is the contract's `status --json`.
 *
 * Always holds (RPO): the figure shown is never better than the agent's last word plus the time since then
 * beyond one heartbeat interval; an agent that is silent past the timeout makes it unknown, with a lower
 * bound, and the group is never shown as protected.
 */
import {
  type AgentReport,
  type Divergence,
  divergenceText,
  PAUSED_FAREWELL,
  type ProtectionState,
  type VerifyReport,
} from '@rephub/protocol';
import type { Received } from '../counters.js';
import type { GroupState, LeftBehind } from '../storage/index.js';

/** What an agent told an earlier run of the hub: no write that the newest point lacks is older than `ageMs`. */
export interface HeardBefore {
  readonly sinceUnixMs: number;
  readonly ageMs: number;
}

/** What the hub knows at the moment of asking. */
export interface GroupFacts {
  readonly name: string;
  /** Null when the storage could not be opened; `trouble` says why. With both, it is open for readers alone. */
  readonly store: GroupState | null;
  readonly trouble: string | null;
  /** A bug that this group has met; null while it has met none. */
  readonly ownFault: string | null;
  readonly connected: boolean;
  /** Why the agent has left in order; null while it is there, and when it went without a word. */
  readonly farewell: string | null;
  /** The agent's mode as told in its last Hello; null when it has not been heard since the hub's start. */
  readonly mode: AgentReport['mode'] | null;
  readonly report: AgentReport | null;
  /** Since the last beat; without one since the hub's start, since then. */
  readonly silentMs: number;
  /** Since the session began, or the last beat if that was later: the agent was heard then, though it told no figures. */
  readonly unheardMs: number;
  /** Null when nothing is known. */
  readonly heardBefore: HeardBefore | null;
  readonly unixMs: number;
  readonly heartbeatMs: number;
  readonly timeoutMs: number;
  /** The hub does not read from the agent: its beats wait in the socket. */
  readonly paused: boolean;
  readonly tests: readonly TestStatus[];
  readonly received: Received;
  /** The last agent that came was on another line than the hub's. */
  readonly divergence: Divergence | null;
  readonly enrolled: boolean;
}

export interface TestStatus {
  readonly name: string;
  /** The point it branched from. */
  readonly seq: number;
  readonly pointTime: string;
  readonly openedAt: string;
  /** Null: stays until it is dropped, or the hub stops. */
  readonly leaseSeconds: number | null;
  readonly scratchBytes: number;
  readonly clients: number;
  /** Why it takes no more writes; null while it does. */
  readonly over: string | null;
}

export interface VolumeStatus {
  readonly name: string;
  readonly sizeBytes: number;
  readonly unreadableBytes: number;
}

export interface GroupStatus {
  readonly name: string;
  readonly state: ProtectionState;
  readonly reason: string;
  readonly mode: AgentReport['mode'] | null;
  readonly effectiveMode: AgentReport['mode'] | null;
  /** Null when unknown; then `rpoAtLeastSeconds` is a lower bound. */
  readonly rpoSeconds: number | null;
  readonly rpoAtLeastSeconds: number;
  /**
   * Before the agent has reported to this run of the hub, `rpoAtLeastSeconds` counts from here, which rests on a wall
   * clock: the agent's last report by the hub's, or the newest point by the agent's. Else null: by monotonic clocks.
   */
  readonly rpoSince: { readonly at: string; readonly by: 'last-report' | 'newest-point' } | null;
  readonly lagBytes: number | null;
  readonly seq: number;
  readonly durableSeq: number;
  /** The newest point that can be opened, and its agent time; null before the first sync has ended. */
  readonly consistentSeq: number | null;
  readonly consistentTime: string | null;
  readonly appliedSeq: number;
  readonly generation: string | null;
  readonly agentConnected: boolean;
  readonly lastResync: AgentReport['lastResync'];
  readonly resync: AgentReport['resync'];
  /** The verification under way, or the last one, as the agent told. */
  readonly verify: VerifyReport | null;
  readonly failover: null;
  /** The last agent that came was on another line, and what each side has that the other has not; null when it was not. */
  readonly divergence: Divergence | null;
  /** An operator has said that the next unknown agent takes the group over. */
  readonly enrolled: boolean;
  readonly tests: readonly TestStatus[];
  /** Tests that are over, and hold room and their names still: removing them is tried again. */
  readonly testsLeftBehind: readonly LeftBehind[];
  readonly volumes: readonly VolumeStatus[];
  /** Images put in place for the first sync, until that has ended. */
  readonly seeds: readonly Pick<VolumeStatus, 'name' | 'sizeBytes'>[];
  /** Payload since the hub's start, as it came and decompressed, and how the last write came. */
  readonly received: Received;
  readonly journalBytes: number;
  readonly indexBytes: number;
  /** Of the disk that holds the group; null when nothing is known. */
  readonly room: { readonly freeBytes: number; readonly reserveBytes: number } | null;
  /** A resync that was refused, what it may take and how much of that is short; null when none waits. */
  readonly resyncShort: { readonly neededBytes: number; readonly shortBytes: number } | null;
  /** Why the base images are not brought up to date any more; null while they are. */
  readonly applyFailed: string | null;
  /** Why they are not for now; it is tried again by itself. Null while they are. */
  readonly applyWaits: string | null;
  /** What the journal waits for, when that is not room; null while it does not. */
  readonly journalWaits: string | null;
}

/**
 * When what a beat tells was true, at the latest: one that was held up on its way, or read late, is hardly younger than
 * the beat of ours that it echoes. An echo from before the session (`metAtMs`) is of another clock; without one the agent
 * had heard no beat of the session yet, and we sent one an interval after it began.
 */
export function toldAtMs(nowMs: number, echoMs: number | null, metAtMs: number, heartbeatMs: number): number {
  return Math.min(nowMs, Math.max(echoMs ?? metAtMs, metAtMs) + heartbeatMs);
}

/** The status of a group, from what is known of it now. */
export function groupStatus(facts: GroupFacts): GroupStatus {
  const { store, report } = facts;
  const verdict = judge(facts);
  const silent = isSilent(facts);
  const toldMs = report?.rpoMs ?? null;
  // What was exposed when the beat was made is older now. Where nothing was, the next beat is due first; but what waits here
  // may have been written right after it.
  const sinceMs =
    toldMs === 0 && !recordsWait(facts) ? Math.max(0, facts.silentMs - facts.heartbeatMs) : facts.silentMs;
  const knownRpoMs = (toldMs ?? 0) + sinceMs;
  const before = report === null ? exposedBefore(facts) : null;
  const atLeastMs = silent && toldMs !== null ? toldMs + facts.silentMs : knownRpoMs;
  return {
    name: facts.name,
    state: verdict.state,
    reason: verdict.reason,
    mode: report?.mode ?? facts.mode,
    effectiveMode: report?.effectiveMode ?? null,
    // Without a point that can be opened no write is safe, however young the oldest of them is.
    rpoSeconds: silent || toldMs === null || (store?.consistentNumber ?? null) === null ? null : seconds(knownRpoMs),
    // The hub has run for so long at least, whatever the clocks on the wall say.
    rpoAtLeastSeconds: seconds(Math.max(atLeastMs, before?.ageMs ?? 0)),
    rpoSince: before === null ? null : { at: before.at, by: before.by },
    lagBytes: silent ? null : lagBytes(facts),
    seq: store?.lastNumber ?? 0,
    durableSeq: store?.durableNumber ?? 0,
    consistentSeq: store?.consistentNumber ?? null,
    consistentTime: store === null || store.consistentNumber === null ? null : agentTimeText(store.consistentTimeUs),
    appliedSeq: store?.appliedNumber ?? 0,
    generation: store?.line?.id ?? null,
    agentConnected: facts.connected,
    lastResync: report?.lastResync ?? null,
    resync: report?.resync ?? null,
    verify: report?.verify ?? null,
    failover: null,
    divergence: facts.divergence,
    enrolled: facts.enrolled,
    tests: facts.tests,
    testsLeftBehind: store?.leftBehind ?? [],
    volumes: (store?.volumes ?? []).map(({ name, sizeBytes, unreadableBytes }) => ({
      name,
      sizeBytes,
      unreadableBytes,
    })),
    seeds: (store?.seeds ?? []).map(({ volume, sizeBytes }) => ({ name: volume, sizeBytes })),
    received: facts.received,
    journalBytes: store?.journalBytes ?? 0,
    indexBytes: store?.indexBytes ?? 0,
    room: store?.room ?? null,
    resyncShort: store?.spanShort ?? null,
    applyFailed: store?.applyFailed ?? null,
    applyWaits: store?.applyWaits ?? null,
    journalWaits: store?.journalWaits ?? null,
  };
}

/** What is said of a group of which nothing can be told, for this reason. */
export function unknownStatus(name: string, why: string, received: Received): GroupStatus {
  return groupStatus({
    name,
    store: null,
    trouble: why,
    ownFault: null,
    connected: false,
    farewell: null,
    mode: null,
    report: null,
    silentMs: 0,
    unheardMs: 0,
    heardBefore: null,
    unixMs: 0,
    heartbeatMs: 0,
    timeoutMs: 0,
    paused: false,
    tests: [],
    received,
    divergence: null,
    enrolled: false,
  });
}

/** The hub knows by itself of records that it does not have durably: those that came, and those that it leaves in the socket. */
function recordsWait({ store, paused }: GroupFacts): boolean {
  return paused || (store !== null && store.lastNumber > store.durableNumber);
}

/** Of what the agent told and what waits here, the more; null when the beat that would tell waits behind what is not read. */
function lagBytes({ store, report, paused, silentMs, heartbeatMs }: GroupFacts): number | null {
  if (report === null || (paused && silentMs > heartbeatMs)) return null;
  return Math.max(report.lagBytes, store?.queuedBytes ?? 0);
}

interface ExposedBefore {
  readonly ageMs: number;
  readonly at: string;
  readonly by: 'last-report' | 'newest-point';
}

/** What a hub that was started again knows of the age of what its newest point lacks; null without a point. */
function exposedBefore({ store, heardBefore, unixMs }: GroupFacts): ExposedBefore | null {
  if (store === null || store.consistentNumber === null) return null;
  if (heardBefore !== null) {
    return { ageMs: heardBefore.ageMs, at: new Date(heardBefore.sinceUnixMs).toISOString(), by: 'last-report' };
  }
  const at = agentTimeText(store.consistentTimeUs);
  return { ageMs: unixMs - store.consistentTimeUs / 1000, at, by: 'newest-point' };
}

/** An agent's time in records, as RFC 3339 with milliseconds. */
export function agentTimeText(timeUs: number): string {
  return new Date(timeUs / 1000).toISOString();
}

/** While the hub itself does not read, silence proves nothing about the agent; its figures age all the same. */
function isSilent(facts: GroupFacts): boolean {
  return facts.silentMs > facts.timeoutMs;
}

/** What a session's beginning proves is that the agent is there, not one of its figures. */
function isUnheard(facts: GroupFacts): boolean {
  return isSilent(facts) && !(facts.connected && facts.unheardMs <= facts.timeoutMs);
}

interface Verdict {
  readonly state: ProtectionState;
  readonly reason: string;
}

/** Rows are tried in order: what is worst and certain comes first. */
function judge(facts: GroupFacts): Verdict {
  const { store, report } = facts;
  const left = facts.connected || facts.farewell === null ? null : `the agent has left: ${facts.farewell}`;
  if (store === null) return { state: 'degraded', reason: facts.trouble ?? 'storage-closed' };
  const broken = store.consistentNumber === null ? 'unprotected' : 'degraded';
  if (store.stalled === 'journal-failed') return { state: broken, reason: 'journal-failed' };
  if (facts.trouble !== null) return { state: broken, reason: facts.trouble };
  if (store.corrupted !== null) return { state: broken, reason: `corrupted: ${store.corrupted}` };
  if (store.lastGoodDropped === true) {
    return { state: 'unprotected', reason: 'the last good point was given up: resync not finished' };
  }
  if (store.consistentNumber === null) {
    const hasBegun = facts.connected || store.line !== null;
    const absent = hasBegun
      ? `first-sync not finished, ${left ?? 'agent not connected'}`
      : `${(store.seeds ?? []).length > 0 ? 'seeded, ' : ''}no agent has begun yet`;
    const now = store.stalled === null ? 'first-sync' : `first-sync, ${stalledText(store)}`;
    return { state: 'unprotected', reason: facts.connected ? now : absent };
  }
  if (store.stalled !== null) return { state: 'degraded', reason: stalledText(store) };
  if (facts.ownFault !== null) return { state: 'degraded', reason: `internal-error: ${facts.ownFault}` };
  if (store.spanShort !== undefined) {
    const { neededBytes, shortBytes } = store.spanShort;
    return {
      state: 'degraded',
      reason: `no room for a resync of up to ${neededBytes} bytes beside the last good point: ${shortBytes} bytes are short`,
    };
  }
  if (store.applyFailed !== undefined) return { state: 'degraded', reason: store.applyFailed };
  if (store.applyWaits !== undefined) {
    return { state: 'degraded', reason: `the base images are not brought up to date for now: ${store.applyWaits}` };
  }
  if (facts.divergence !== null && !facts.connected) {
    const { kind } = facts.divergence;
    return { state: 'degraded', reason: `${kind}: parted ${divergenceText(facts.divergence).parted}` };
  }
  if (!facts.connected && facts.farewell === PAUSED_FAREWELL) return { state: 'degraded', reason: 'paused' };
  if (isUnheard(facts) && !(facts.connected && facts.paused)) {
    if (report === null) {
      return { state: 'unknown', reason: `agent not heard since the hub started${exposedText(exposedBefore(facts))}` };
    }
    return { state: 'unknown', reason: left ?? 'agent silent' };
  }
  if (report === null) return { state: 'unknown', reason: 'agent not heard yet' };
  if (!facts.connected) return { state: worse(report.state, 'catching-up'), reason: left ?? 'agent not connected' };
  if (isSilent(facts)) {
    if (facts.paused) return { state: 'degraded', reason: 'journal is slow' };
    return { state: worse(report.state, 'catching-up'), reason: 'agent is back, its first report is due' };
  }
  const unreadable = store.volumes.filter((volume) => volume.unreadableBytes > 0);
  if (unreadable.length > 0 && report.state !== 'unprotected') {
    const named = unreadable.map((volume) => `${volume.name}: ${volume.unreadableBytes} bytes`).join(', ');
    return { state: 'degraded', reason: `unreadable at the source: ${named}` };
  }
  if (store.spanOpen && report.state === 'protected') return { state: 'catching-up', reason: 'resync' };
  return { state: report.state, reason: report.reason };
}

/** Why the journal takes nothing for now. */
function stalledText({ stalled, journalWaits }: GroupState): string {
  return journalWaits === undefined ? `${stalled}` : `${stalled}: ${journalWaits}`;
}

function exposedText(before: ExposedBefore | null): string {
  if (before === null) return '';
  const what =
    before.by === 'last-report'
      ? 'its last report, by the clock of this machine'
      : 'the newest point, by the clock of the agent';
  return `; what could be lost counts from ${before.at}: ${what}`;
}

const BADNESS: Readonly<Record<ProtectionState, number>> = {
  protected: 0,
  'catching-up': 1,
  degraded: 2,
  unknown: 3,
  unprotected: 4,
};

function worse(a: ProtectionState, b: ProtectionState): ProtectionState {
  return BADNESS[a] >= BADNESS[b] ? a : b;
}

/** Milliseconds as seconds, rounded up to a hundredth: never better than it is. */
function seconds(ms: number): number {
  return Math.ceil(ms / 10) / 100;
}
