import { describe, expect, it } from 'vitest';
import { isStreamed, stepStream, type StreamEvent, type StreamState } from './stream-state.js';

const STATES: StreamState[] = ['off', 'gap', 'streaming', 'span', 'stopped'];
const EVENTS: StreamEvent[] = ['lost-a-write', 'in-step', 'span-begun', 'span-ended', 'window-abandoned', 'failed'];

describe('stream state', () => {
  it('has an answer for every state and event: a legal state, or an error that names both', () => {
    for (const state of STATES) {
      for (const event of EVENTS) {
        let next: StreamState;
        try {
          next = stepStream(state, event);
        } catch (error) {
          expect(String(error)).toContain(event);
          expect(String(error)).toContain(state);
          continue;
        }
        expect(STATES).toContain(next);
      }
    }
  });

  it('never streams right after a write was lost (promise SPAN)', () => {
    for (const state of STATES) expect(isStreamed(stepStream(state, 'lost-a-write'))).toBe(false);
  });

  it('leaves a gap only by a span, or when both sides are known to be equal', () => {
    const out = EVENTS.filter((event) => {
      try {
        return isStreamed(stepStream('gap', event));
      } catch {
        return false;
      }
    });
    expect(out).toEqual(['in-step', 'span-begun']);
  });

  it('never leaves stopped', () => {
    for (const event of EVENTS) {
      try {
        expect(stepStream('stopped', event)).toBe('stopped');
      } catch (error) {
        expect(String(error)).toContain('stopped');
      }
    }
  });
});
