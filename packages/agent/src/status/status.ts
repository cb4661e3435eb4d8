/** The group's state in one word and one sentence, from the agent's side. Pure. */
import { type ProtectionState } from '@rephub/protocol';
import { type StreamState } from '../mirror/stream-state.js';

export interface StateFacts {
  readonly hasHub: boolean;
  readonly paused: boolean;
  readonly stream: StreamState;
  readonly linked: boolean;
  /** Why the link is down, or was refused. */
  readonly linkReason: string | null;
  /** The hub will not have us until somebody acts. */
  readonly refused: boolean;
  /** The hub's group belongs to another agent: no point of it is of these disks. */
  readonly replaced: boolean;
  /** The hub has at least one point that can be opened. */
  readonly everConsistent: boolean;
  readonly unreadableRanges: number;
  readonly upstreamReason: string | null;
  readonly stoppedReason: string | null;
  readonly resyncCause: string | null;
  readonly stalled: string | null;
  /** With `--on-disconnect freeze`: guests' writes wait. */
  readonly frozen: boolean;
}

interface State {
  readonly state: ProtectionState;
  readonly reason: string;
}

export function describeState(facts: StateFacts): State {
  const { state, reason } = rowOf(facts);
  if (!facts.frozen) return { state, reason };
  return { state, reason: `${reason}; guests' writes wait (on-disconnect freeze), repagent pause lets them go on` };
}

/** Rows are tried in order; the first that fits is the answer. */
function rowOf(facts: StateFacts): State {
  if (!facts.hasHub) return { state: 'unprotected', reason: 'no hub is configured' };
  if (facts.stoppedReason !== null)
    return { state: 'degraded', reason: `mirroring has stopped: ${facts.stoppedReason}` };
  if (facts.replaced) return { state: 'unprotected', reason: facts.linkReason ?? 'the group belongs to another agent' };
  if (facts.refused) return { state: 'degraded', reason: facts.linkReason ?? 'refused by the hub' };
  if (facts.paused) return { state: 'degraded', reason: 'paused' };
  if (!facts.everConsistent) {
    const where = facts.linked
      ? 'first sync under way'
      : `first sync not done, ${facts.linkReason ?? 'hub not connected'}`;
    return { state: 'unprotected', reason: where };
  }
  if (!facts.linked) return { state: 'degraded', reason: facts.linkReason ?? 'hub not connected' };
  if (facts.stalled !== null) return { state: 'degraded', reason: `hub takes nothing: ${facts.stalled}` };
  // Nothing else goes on without it, a resync least of all.
  if (facts.upstreamReason !== null) return { state: 'degraded', reason: `upstream: ${facts.upstreamReason}` };
  if (facts.stream === 'gap') return { state: 'catching-up', reason: 'pulled ahead: waiting for room to resync' };
  if (facts.stream === 'span') return { state: 'catching-up', reason: `resync: ${facts.resyncCause ?? 'under way'}` };
  if (facts.unreadableRanges > 0) {
    return { state: 'degraded', reason: `upstream cannot read ${facts.unreadableRanges} range(s)` };
  }
  return { state: 'protected', reason: 'in step' };
}
