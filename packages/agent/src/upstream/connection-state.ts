/**
 * Where one volume's upstream is between serving and being looked for: one state for all its
 * connections, since what one of them lost must be played before any other passes anything (promise REPLAY). Pure.
 */
export type UpstreamState =
  /** Requests pass. */
  | { readonly kind: 'up' }
  /** Nothing new passes; what is in flight on the connections that live is awaited. */
  | { readonly kind: 'settling'; readonly sinceMs: number; readonly reason: string }
  /** Connections that are needed are being opened; `refused`: what came back is not what was there before. */
  | { readonly kind: 'connecting'; readonly sinceMs: number; readonly reason: string; readonly refused: boolean }
  /** What may have been lost is being written again. */
  | { readonly kind: 'playing'; readonly sinceMs: number; readonly reason: string }
  | { readonly kind: 'closed' };

export type StateKind = UpstreamState['kind'];

export type UpstreamEvent =
  /** A connection died. */
  | { readonly kind: 'lost'; readonly nowMs: number; readonly reason: string }
  /** An operation was answered with an error: all connections are to be opened anew before it is repeated. */
  | { readonly kind: 'reopen'; readonly nowMs: number; readonly reason: string }
  | { readonly kind: 'settled' }
  | { readonly kind: 'open-failed'; readonly reason: string; readonly refused: boolean }
  | { readonly kind: 'opened' }
  | { readonly kind: 'played' }
  | { readonly kind: 'close' };

/** The legal moves; an event that is not there changes nothing. */
export const MOVES: Readonly<Record<StateKind, Readonly<Partial<Record<UpstreamEvent['kind'], StateKind>>>>> = {
  up: { lost: 'settling', reopen: 'settling', close: 'closed' },
  settling: { settled: 'connecting', close: 'closed' },
  connecting: { 'open-failed': 'connecting', opened: 'playing', close: 'closed' },
  playing: { lost: 'settling', reopen: 'settling', played: 'up', close: 'closed' },
  closed: {},
};

export const UP: UpstreamState = { kind: 'up' };

export function stepUpstream(state: UpstreamState, event: UpstreamEvent): UpstreamState {
  const next = MOVES[state.kind][event.kind];
  if (next === undefined) return state;
  switch (next) {
    case 'up':
      return UP;
    case 'closed':
      return { kind: 'closed' };
    case 'settling':
    case 'playing':
      return { kind: next, sinceMs: sinceOf(state, event), reason: reasonOf(state, event) };
    case 'connecting':
      return {
        kind: 'connecting',
        sinceMs: sinceOf(state, event),
        reason: reasonOf(state, event),
        refused: event.kind === 'open-failed' && event.refused,
      };
  }
}

/** An outage is as old as its first loss, whatever was tried since. */
function sinceOf(state: UpstreamState, event: UpstreamEvent): number {
  if ('sinceMs' in state) return state.sinceMs;
  return 'nowMs' in event ? event.nowMs : 0;
}

function reasonOf(state: UpstreamState, event: UpstreamEvent): string {
  if ('reason' in event) return event.reason;
  return 'reason' in state ? state.reason : '';
}
