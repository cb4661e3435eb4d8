/** What `repagent status` says of an upstream. Pure. */
import { type UpstreamState } from './connection-state.js';

export interface UpstreamStatus {
  readonly up: boolean;
  /** `refused`: what came back is not what was there before; `shrunk`: what is there is cut short, and serves the rest. */
  readonly state: 'up' | 'shrunk' | 'read-only' | 'settling' | 'connecting' | 'refused' | 'playing' | 'closed';
  /** Why it is not up, not whole, or only to be read. */
  readonly reason: string | null;
  readonly reconnects: number;
  readonly connections: number;
  /** Written and not flushed, as far as it is kept. */
  readonly unflushedBytes: number;
}

export function describeUpstream(
  state: UpstreamState,
  readOnlyReason: string | null,
  shrunkReason: string | null,
  reconnects: number,
  connections: number,
  unflushedBytes: number,
): UpstreamStatus {
  const refused = state.kind === 'connecting' && state.refused;
  const readOnly = state.kind === 'up' && readOnlyReason !== null;
  const shrunk = state.kind === 'up' && shrunkReason !== null;
  return {
    up: state.kind === 'up',
    state: refused ? 'refused' : shrunk ? 'shrunk' : readOnly ? 'read-only' : state.kind,
    reason: 'reason' in state ? state.reason : (shrunkReason ?? readOnlyReason),
    reconnects,
    connections,
    unflushedBytes,
  };
}
