/** The part of `status --json` that users and scripts hold on to, and that tests read. */

import { type ProtectionState } from '@rephub/protocol';

export interface GroupStatus {
  readonly name: string;
  readonly state: ProtectionState;
  readonly reason: string;
  readonly mode: string | null;
  readonly effectiveMode: string | null;
  readonly rpoSeconds: number | null;
  readonly lagBytes: number | null;
  readonly seq: number;
  readonly durableSeq: number;
  readonly appliedSeq?: number;
  readonly generation: string | null;
  readonly agentConnected: boolean;
  readonly lastResync: null | {
    readonly cause: string;
    readonly bytesSent: number;
    readonly bytesCompared: number;
    readonly finishedAt: string;
  };
  readonly resync: null | {
    readonly cause: string;
    readonly bytesDone: number;
    readonly bytesTotal: number;
    readonly bytesCompared?: number;
    readonly bytesPerSecond?: number;
    readonly etaSeconds: number | null;
  };
  readonly verify: null | {
    readonly id: string;
    readonly finishedAt: string | null;
    readonly bytesSame: number;
    readonly bytesDiffer: number;
    readonly bytesUnknown: number;
    readonly differs: readonly { readonly volume: string; readonly offset: number; readonly length: number }[];
  };
  readonly tests: readonly { readonly name: string }[];
  readonly volumes: readonly { readonly name: string; readonly sizeBytes: number }[];
}

/** What the agent adds. */
export interface AgentStatus extends GroupStatus {
  readonly starting: boolean;
  readonly dirtyBytes: number;
  readonly hotExtents: number;
  readonly windowBytes: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly clients: readonly unknown[];
  readonly upstream: readonly {
    readonly up: boolean;
    readonly state: string;
    readonly reason: string | null;
    /** While the agent starts. */
    readonly tries?: number;
    readonly reconnects: number;
    readonly connections: number;
    readonly unflushedBytes: number;
  }[];
}

/** What the hub's status holds: `{"groups":[…]}`. */
export function groupsOf(json: string): readonly GroupStatus[] {
  return (JSON.parse(json) as { readonly groups: readonly GroupStatus[] }).groups;
}

/** What the agent's status holds: the same object with its only group, or that group alone. */
export function agentGroupOf(json: string): AgentStatus | undefined {
  const value = JSON.parse(json) as AgentStatus & { readonly groups?: readonly AgentStatus[] };
  return value.groups === undefined ? value : value.groups[0];
}
