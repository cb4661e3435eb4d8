/**
 * What happens to a write that upstream has taken: is it streamed, or only marked? One state for the
 * whole group, one pure step, the legal moves as a table (docs/design.md, "The agent").
 *
 *   off        no hub is configured: writes are only marked
 *   gap        writes are only marked; a span must begin before streaming goes on
 *   streaming  every write becomes a record; the replica is consistent at every number
 *   span       every write becomes a record, and marked blocks are copied; consistent again at the span's end
 *   stopped    mirroring has failed (promise FAIL-OPEN): writes are only marked until the agent is started again
 */
export type StreamState = 'off' | 'gap' | 'streaming' | 'span' | 'stopped';

export type StreamEvent =
  /** A write could not become a record: window full, hub away too long, or its fate is unknown. */
  | 'lost-a-write'
  /** Upstream and hub are known to be equal but for the window. */
  | 'in-step'
  /** The SpanBegin record is in the window. */
  | 'span-begun'
  /** The SpanEnd record is in the window. */
  | 'span-ended'
  /** The window was given up: its records will not reach the hub. */
  | 'window-abandoned'
  /** A fault in mirroring itself. */
  | 'failed';

const MOVES: Record<StreamState, Partial<Record<StreamEvent, StreamState>>> = {
  off: { 'lost-a-write': 'off', 'window-abandoned': 'off' },
  gap: {
    'lost-a-write': 'gap',
    'in-step': 'streaming',
    'span-begun': 'span',
    'window-abandoned': 'gap',
    failed: 'stopped',
  },
  streaming: {
    'lost-a-write': 'gap',
    'in-step': 'streaming',
    'span-begun': 'span',
    'window-abandoned': 'gap',
    failed: 'stopped',
  },
  span: {
    'lost-a-write': 'gap',
    'span-begun': 'span',
    'span-ended': 'streaming',
    'window-abandoned': 'gap',
    failed: 'stopped',
  },
  stopped: { 'lost-a-write': 'stopped', 'window-abandoned': 'stopped', failed: 'stopped' },
};

/** The state after the event; throws on a move that must not be asked for (a bug). */
export function stepStream(state: StreamState, event: StreamEvent): StreamState {
  const next = MOVES[state][event];
  if (next === undefined) throw new Error(`stream: ${event} is not possible while ${state}`);
  return next;
}

/** Writes become records in these states. */
export function isStreamed(state: StreamState): boolean {
  return state === 'streaming' || state === 'span';
}
