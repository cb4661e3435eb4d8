import { describe, expect, it } from 'vitest';
import { MOVES, type StateKind, stepUpstream, UP, type UpstreamEvent, type UpstreamState } from './connection-state.js';

const STATES: Readonly<Record<StateKind, UpstreamState>> = {
  up: UP,
  settling: { kind: 'settling', sinceMs: 7, reason: 'lost' },
  connecting: { kind: 'connecting', sinceMs: 7, reason: 'lost', refused: false },
  playing: { kind: 'playing', sinceMs: 7, reason: 'lost' },
  closed: { kind: 'closed' },
};

const EVENTS: readonly UpstreamEvent[] = [
  { kind: 'lost', nowMs: 9, reason: 'gone' },
  { kind: 'reopen', nowMs: 9, reason: 'failed' },
  { kind: 'settled' },
  { kind: 'open-failed', reason: 'nobody there', refused: false },
  { kind: 'opened' },
  { kind: 'played' },
  { kind: 'close' },
];

describe('the state of an upstream', () => {
  for (const [from, state] of Object.entries(STATES)) {
    it.each(EVENTS.map((event) => [event.kind, event] as const))(
      `${from} at %s moves as the table says`,
      (kind, event) => {
        const expected = MOVES[state.kind][kind];
        const next = stepUpstream(state, event);
        if (expected === undefined) expect(next).toBe(state);
        else expect(next.kind).toBe(expected);
      },
    );
  }

  it('never gets from a loss to serving without settling, connecting and playing', () => {
    const before = (wanted: StateKind): string[] =>
      Object.entries(MOVES).flatMap(([from, moves]) => (Object.values(moves).includes(wanted) ? [from] : []));
    expect(before('up')).toEqual(['playing']);
    expect(before('playing')).toEqual(['connecting']);
    expect(before('connecting')).toEqual(['settling', 'connecting']);
  });

  it('is as old as the first loss, and tells the newest reason', () => {
    const lost = stepUpstream(UP, { kind: 'lost', nowMs: 9, reason: 'gone' });
    const refused = stepUpstream(stepUpstream(lost, { kind: 'settled' }), {
      kind: 'open-failed',
      reason: 'another size',
      refused: true,
    });
    expect(refused).toEqual({ kind: 'connecting', sinceMs: 9, reason: 'another size', refused: true });
    const again = stepUpstream(stepUpstream(refused, { kind: 'opened' }), { kind: 'lost', nowMs: 99, reason: 'again' });
    expect(again).toEqual({ kind: 'settling', sinceMs: 9, reason: 'again' });
  });
});
