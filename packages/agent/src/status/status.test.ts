import { describe, expect, it } from 'vitest';
import { describeState, type StateFacts } from './status.js';

const IN_STEP: StateFacts = {
  hasHub: true,
  paused: false,
  stream: 'streaming',
  linked: true,
  linkReason: null,
  refused: false,
  replaced: false,
  everConsistent: true,
  unreadableRanges: 0,
  upstreamReason: null,
  stoppedReason: null,
  resyncCause: null,
  stalled: null,
  frozen: false,
};

describe('the state in one word', () => {
  it.each(['streaming', 'gap', 'span'] as const)(
    'an upstream that is away is what counts, also when the stream is: %s',
    (stream) => {
      const { state, reason } = describeState({
        ...IN_STEP,
        stream,
        resyncCause: 'pulled-ahead',
        upstreamReason: 'gone',
      });
      expect([state, reason]).toEqual(['degraded', 'upstream: gone']);
    },
  );

  it('in step is protected, anything marked is catching up', () => {
    expect(describeState(IN_STEP).state).toBe('protected');
    expect(describeState({ ...IN_STEP, stream: 'gap' }).state).toBe('catching-up');
    expect(describeState({ ...IN_STEP, stream: 'span' }).state).toBe('catching-up');
  });

  it('a group that another agent has taken over protects nothing of this one, whatever was before', () => {
    const replaced = { ...IN_STEP, linked: false, refused: true, replaced: true, linkReason: 'it is another’s' };
    expect(describeState(replaced)).toEqual({ state: 'unprotected', reason: 'it is another’s' });
  });

  it('guests that wait are told of, and what lets them go on', () => {
    const away = { ...IN_STEP, linked: false, linkReason: 'connection refused' };
    expect(describeState(away).reason).toBe('connection refused');
    expect(describeState({ ...away, frozen: true })).toEqual({
      state: 'degraded',
      reason: "connection refused; guests' writes wait (on-disconnect freeze), repagent pause lets them go on",
    });
  });

  it('without a point it is unprotected, whatever else is wrong', () => {
    expect(describeState({ ...IN_STEP, everConsistent: false, upstreamReason: 'gone' }).state).toBe('unprotected');
  });
});
