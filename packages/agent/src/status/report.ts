/** The shape of `repagent status --json`: the contract's group object, and what only the agent knows. */
import {
  type AgentReport,
  type Divergence,
  type ProtectionState,
  type ResyncsByCause,
  type VerifyReport,
} from '@rephub/protocol';
import { type CompressionStatus, type PackerCounters } from '../compression/packer.js';
import { type CourtesyStatus } from '../resync/courtesy.js';
import { type LinkStatus } from '../link/link-status.js';
import { type MirrorCounters } from '../mirror/mirror-events.js';
import { type VerifyCounters } from '../resync/verifier.js';

/** Until its upstreams are there and the group is open, an agent knows less of itself. */
export type AgentStatus = GroupStatus | StartingStatus;

export interface GroupStatus {
  readonly name: string;
  readonly starting: false;
  readonly state: ProtectionState;
  readonly reason: string;
  readonly mode: string;
  readonly effectiveMode: string;
  readonly rpoSeconds: number | null;
  readonly lagBytes: number | null;
  readonly seq: number;
  readonly durableSeq: number;
  readonly generation: string;
  readonly agentConnected: boolean;
  readonly lastResync: AgentReport['lastResync'];
  readonly verify: VerifyReport | null;
  /** What the sample that this start took came to; null when none was taken (yet). */
  readonly startSample: VerifyReport | null;
  readonly resync: AgentReport['resync'];
  readonly failover: null;
  /** The hub has another line than this agent, and what each side has that the other has not; null while it has not. */
  readonly divergence: Divergence | null;
  readonly tests: readonly never[];
  readonly volumes: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly upstream: readonly {
    readonly volume: string;
    readonly uri: string;
    readonly up: boolean;
    /** Where it is between serving and being looked for; `refused`: what came back is not what was there before. */
    readonly state: string;
    readonly reason: string | null;
    readonly reconnects: number;
    readonly connections: number;
    /** Written and not flushed, as far as it is kept for a replay. */
    readonly unflushedBytes: number;
  }[];
  /** What a resync may read a second just now, and by which schedule; null: no limit, no schedule. */
  readonly maxBytesPerSecond: number | null;
  readonly maxRateSchedule: string | null;
  /** How far what is read in the background gives way to guests, and by what. */
  readonly courtesy: CourtesyStatus;
  readonly hub: LinkStatus | null;
  readonly clients: readonly {
    readonly peer: string;
    readonly exportName: string | null;
    readonly requestsInFlight: number;
    readonly requestsDone: number;
  }[];
  readonly dirtyBytes: number;
  readonly hotExtents: number;
  readonly windowBytes: number;
  readonly compression: CompressionStatus;
  readonly counters: Readonly<Counters>;
  /** Of all resyncs of this process, the one under way too. */
  readonly resyncsByCause: ResyncsByCause;
  readonly tracking: { readonly found: string; readonly reason: string; readonly session: number };
}

/** Since the agent's start. */
interface Counters extends MirrorCounters, PackerCounters, VerifyCounters {
  /** Connections of guests that ended because of what the client did. */
  readonly clientFaults: number;
  readonly volumesGrown: number;
  /** Requests of guests that were answered with an error of upstream. */
  readonly failedRequests: number;
}

/** What of it is not known yet is null. */
export interface StartingStatus {
  readonly name: string;
  readonly starting: true;
  readonly state: ProtectionState;
  readonly reason: string;
  readonly mode: string;
  readonly effectiveMode: null;
  readonly rpoSeconds: null;
  readonly lagBytes: null;
  readonly seq: null;
  readonly durableSeq: null;
  readonly generation: null;
  readonly agentConnected: false;
  readonly lastResync: null;
  readonly resync: null;
  readonly failover: null;
  readonly divergence: null;
  readonly tests: readonly never[];
  readonly volumes: readonly { readonly name: string; readonly sizeBytes: number | null }[];
  readonly upstream: readonly {
    readonly volume: string;
    readonly uri: string;
    readonly up: boolean;
    readonly state: 'up' | 'awaited';
    /** What the last try came to; null while none has failed, and once it is up. */
    readonly reason: string | null;
    readonly tries: number;
    /** When it was tried first; null before that. */
    readonly since: string | null;
    readonly awaitedSeconds: number;
  }[];
  readonly hub: Pick<LinkStatus, 'urls' | 'connected' | 'reason'> | null;
  readonly clients: readonly never[];
  readonly dirtyBytes: null;
  readonly hotExtents: null;
}

type Told = Pick<
  GroupStatus,
  | 'state'
  | 'reason'
  | 'mode'
  | 'effectiveMode'
  | 'rpoSeconds'
  | 'lagBytes'
  | 'lastResync'
  | 'resync'
  | 'verify'
  | 'startSample'
>;

/** The part of the status that is told to the hub too. Without a hub that is ours (`hasHub`), or before its first point, there is no RPO. */
export function reportOf(report: AgentReport, hasHub: boolean): Told {
  const known = hasHub && report.state !== 'unprotected' && report.state !== 'unknown';
  return {
    state: report.state,
    reason: report.reason,
    mode: report.mode,
    effectiveMode: report.effectiveMode,
    rpoSeconds: known && report.rpoMs !== null ? report.rpoMs / 1000 : null,
    lagBytes: hasHub ? report.lagBytes : null,
    lastResync: report.lastResync,
    resync: report.resync,
    verify: report.verify ?? null,
    startSample: report.startSample ?? null,
  };
}
