import { FrameType } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import { LineState, lineStart } from './line-state.js';

const LINE = { id: '11111111-2222-4333-8444-555555555555', parent: null };

/** A line of one volume, damaged after its second record. */
function damagedLine(): LineState {
  const state = new LineState(LINE, lineStart(LINE));
  state.advance(record(FrameType.VolumeAdded, 1), 'disk0');
  state.advance(record(FrameType.Write, 2), null);
  state.damage = 'a segment is gone';
  return state;
}

function record(type: FrameType, number: number): Parameters<LineState['advance']>[0] {
  return { type, volume: number === 7 ? 1 : 0, length: 1 << 20, number, headerChecksum: number, agentTimeUs: number };
}

/** As a restart takes it from where it was stored. */
const stored = (state: LineState): LineState => new LineState(LINE, state.point());

describe.each([
  ['in one process', (state: LineState): LineState => state],
  ['stored after each record', stored],
])('a line that is damaged, %s', (_, next) => {
  it('is whole again when the very record comes that was missing', () => {
    const state = next(damagedLine());
    state.advance(record(FrameType.Write, 3), null);
    expect(next(state).damage).toBeNull();
  });

  it('stays damaged when a record was passed over, until a span ends', () => {
    let state = next(damagedLine());
    state.advance(record(FrameType.VolumeAdded, 7), 'disk1');
    state = next(state);
    for (const [type, number] of [
      [FrameType.Checkpoint, 8],
      [FrameType.SpanBegin, 9],
      [FrameType.Write, 10],
    ] as const) {
      state.advance(record(type, number), null);
      expect(state.damage, `after record ${number}`).toBe('a segment is gone');
      state = next(state);
    }
    state.advance(record(FrameType.SpanEnd, 11), null);
    expect(next(state).damage).toBeNull();
  });
});
