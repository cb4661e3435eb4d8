import { BlockRequest, Command, CommandFlag, NbdError } from '@rephub/nbd';
import { silentLogger } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { UP, type UpstreamState } from './connection-state.js';
import { Setbacks } from './setbacks.js';
import { UpstreamOp } from './upstream-op.js';

const POLICY = { retries: 2, delayMs: 1000, exponential: true };
const PLAYING: UpstreamState = { kind: 'playing', sinceMs: 0, reason: 'lost' };

interface Rig {
  readonly setbacks: Setbacks;
  readonly clock: SimClock;
  /** What was done, in order. */
  readonly done: string[];
  /** What the log was told of failed requests. */
  readonly told: unknown[];
  /** Everything unflushed is at hand. */
  complete: boolean;
  state: UpstreamState;
  generation: number;
  blockedCount: number;
}

function rig(): Rig {
  const clock = new SimClock();
  const done: string[] = [];
  const told: unknown[] = [];
  const made: Rig = {
    clock,
    done,
    told,
    complete: true,
    state: UP,
    generation: 1,
    blockedCount: 0,
    setbacks: new Setbacks({
      clock,
      policy: POLICY,
      hooks: { unflushedLost: () => done.push('unflushed lost') },
      log: {
        get complete() {
          return made.complete;
        },
        stamp: 1,
        failed: (entry) => done.push(`entry ${entry} failed`),
        abandon: () => done.push('log abandoned'),
      },
      lanes: { written: () => undefined },
      room: { wait: () => done.push('waits'), delay: () => done.push('delayed') },
      flushes: {
        failed: () => done.push('sync failed'),
        mayHaveDropped: false,
        noteMayHaveDropped: () => undefined,
        forgetAsked: () => undefined,
        get blockedCount() {
          return made.blockedCount;
        },
        unblock: () => done.push('unblocked'),
      },
      recovery: {
        get state() {
          return made.state;
        },
        get isUp() {
          return made.state.kind === 'up';
        },
        get generation() {
          return made.generation;
        },
        reopen: (why) => done.push(`reopened: ${why}`),
        noteSettled: () => undefined,
      },
      readOnly: { failed: () => undefined },
      told: { ...silentLogger, warn: (_event, fields) => told.push(fields?.['failedRequests']) },
      volume: 'disk0',
      canFlush: true,
      begin: () => done.push('begun'),
      finish: (_op, error) => done.push(`finished ${error}`),
    }),
  };
  return made;
}

function opOf(command: Command, flags = 0): UpstreamOp {
  const op = new UpstreamOp({ opAnswered: () => undefined, opTaken: () => undefined });
  const outer = new BlockRequest({ completed: () => undefined });
  outer.command = command;
  outer.flags = flags;
  op.outer = outer;
  op.entry = command === Command.Write ? 7 : 0;
  return op;
}

describe('Setbacks', () => {
  it('repeats what was answered with an error after a growing delay, until the retries are used up', () => {
    const { setbacks, clock, done } = rig();
    const op = opOf(Command.Write);
    const nowMs = clock.monotonicMs();
    setbacks.answered(op, NbdError.Eio);
    expect([op.dueMs - nowMs, op.generation]).toEqual([1000, 1]);
    setbacks.answered(op, NbdError.Eio);
    expect(op.dueMs - nowMs).toBe(2000);
    setbacks.answered(op, NbdError.Eio);
    expect(done).toEqual(['delayed', 'delayed', 'entry 7 failed', `finished ${NbdError.Eio}`]);
  });

  it('tells of guests that were answered with an error, now and then, and counts them all', async () => {
    const { setbacks, clock, told } = rig();
    for (let request = 0; request < 5; request += 1) setbacks.answered(opOf(Command.Read), NbdError.Einval);
    await clock.advance(10_000);
    setbacks.answered(opOf(Command.Read), NbdError.Einval);
    const own = opOf(Command.Read);
    own.once = true;
    setbacks.answered(own, NbdError.Eio);
    setbacks.answered(opOf(Command.WriteZeroes, CommandFlag.FastZero), NbdError.Enotsup);
    expect([told, setbacks.failedRequests]).toEqual([[1, 6], 6]);
  });

  it('passes at once what no repetition would change, and what the submitter would rather know', () => {
    const { setbacks, done } = rig();
    setbacks.answered(opOf(Command.Read), NbdError.Einval);
    const impatient = opOf(Command.Read);
    impatient.once = true;
    setbacks.answered(impatient, NbdError.Eio);
    expect(done).toEqual([`finished ${NbdError.Einval}`, `finished ${NbdError.Eio}`]);
  });

  it('has everything unflushed written again before a failed flush is repeated (FLUSH)', () => {
    const { setbacks, done } = rig();
    setbacks.answered(opOf(Command.Flush), NbdError.Eio);
    expect(done).toEqual(['sync failed', 'delayed', 'reopened: a flush failed']);
    const fua = opOf(Command.Write, CommandFlag.Fua);
    setbacks.answered(fua, NbdError.Eio);
    expect([fua.syncFailed, fua.fuaByFlush]).toEqual([true, true]);
  });

  it('repeats no flush whose content is not at hand, and tells that it may be lost', () => {
    const made = rig();
    made.complete = false;
    made.blockedCount = 1;
    made.setbacks.answered(opOf(Command.Flush), NbdError.Eio);
    // Writes that waited for the room that it would have made wait no longer.
    const lost = ['unflushed lost', 'log abandoned', 'unflushed lost', 'unblocked'];
    expect(made.done).toEqual(['sync failed', ...lost, `finished ${NbdError.Eio}`]);
  });

  it('has what a lost connection took along wait for the next, as often as it may be repeated', () => {
    const { setbacks, done } = rig();
    const op = opOf(Command.Read);
    for (let count = 0; count <= POLICY.retries; count += 1) setbacks.taken(op);
    expect(done).toEqual(['waits', 'waits', `finished ${NbdError.Eio}`]);
  });

  it('lets nothing wait once upstream is given up', () => {
    const made = rig();
    made.state = { kind: 'closed' };
    made.setbacks.wait(opOf(Command.Read));
    made.setbacks.answered(opOf(Command.Read), NbdError.Eio);
    expect(made.done).toEqual([`finished ${NbdError.Eshutdown}`, `finished ${NbdError.Eio}`]);
  });

  it('opens the connections anew before it repeats on them, unless that has been done since', () => {
    const made = rig();
    const op = opOf(Command.Read);
    made.setbacks.answered(op, NbdError.Eio);
    made.setbacks.repeat([op]);
    expect(made.done).toEqual(['delayed', 'reopened: an operation failed', 'begun']);
    made.done.length = 0;
    made.generation = 2;
    made.setbacks.repeat([op]);
    expect(made.done).toEqual(['begun']);
  });

  it('counts what fails while it is played as failed on the connections that are to serve next', () => {
    const made = rig();
    made.state = PLAYING;
    const op = opOf(Command.Write);
    made.setbacks.answered(op, NbdError.Eio);
    expect(op.generation).toBe(2);
  });
});
