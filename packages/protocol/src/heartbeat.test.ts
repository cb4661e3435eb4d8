import type { Clock, Timer } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { beforeEach, describe, expect, test } from 'vitest';
import { Heartbeat } from './heartbeat.js';

let clock: SimClock;
let sentAt: number[];
let deadAt: number[];

function heartbeat(on: Clock = clock): Heartbeat {
  return new Heartbeat({
    clock: on,
    intervalMs: 1_000,
    timeoutMs: 5_000,
    firstMs: 10_000,
    send: () => sentAt.push(on.monotonicMs()),
    dead: (silentMs) => deadAt.push(silentMs),
  });
}

/** A clock whose timers come late, as those of a process that was stopped. */
class StalledClock implements Clock {
  nowMs = 0;
  pending: { dueMs: number; run: () => void }[] = [];
  monotonicMs(): number {
    return this.nowMs;
  }
  unixMs(): number {
    return this.nowMs;
  }
  after(delayMs: number, run: () => void): Timer {
    const timer = { dueMs: this.nowMs + delayMs, run };
    this.pending.push(timer);
    return { cancel: () => (this.pending = this.pending.filter((other) => other !== timer)) };
  }
  /** Time jumps, then what was due meanwhile runs, once. */
  jump(byMs: number): void {
    this.nowMs += byMs;
    const due = this.pending.filter((timer) => timer.dueMs <= this.nowMs);
    this.pending = this.pending.filter((timer) => timer.dueMs > this.nowMs);
    for (const timer of due) timer.run();
  }
}

beforeEach(() => {
  clock = new SimClock();
  sentAt = [];
  deadAt = [];
});

describe('heartbeat', () => {
  test('sends every interval once it may, not before', async () => {
    const beat = heartbeat();
    await clock.advance(2_500);
    expect(sentAt).toEqual([]);
    beat.startSending();
    beat.startSending();
    await clock.advance(3_100);
    expect(sentAt).toEqual([3_500, 4_500, 5_500]);
    beat.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test('a peer that is never heard is dead after the time for its first sign', async () => {
    heartbeat().startSending();
    await clock.advance(9_999);
    expect(deadAt).toEqual([]);
    await clock.advance(1);
    expect(deadAt).toEqual([10_000]);
    await clock.advance(60_000);
    expect(deadAt).toEqual([10_000]);
    expect(sentAt.length).toBe(9);
    expect(clock.pendingTimers).toBe(0);
  });

  test('after the first sign the timeout holds, to the millisecond, from whatever was heard last', async () => {
    const beat = heartbeat();
    await clock.advance(300);
    beat.heard();
    await clock.advance(4_700);
    beat.heard();
    await clock.advance(4_999);
    expect(deadAt).toEqual([]);
    await clock.advance(1);
    expect(deadAt).toEqual([5_000]);
  });

  test('nothing is called after stop', async () => {
    const beat = heartbeat();
    beat.startSending();
    beat.stop();
    beat.heard();
    beat.setTimes(10, 20);
    beat.setDeaf(true);
    beat.setDeaf(false);
    await clock.advance(60_000);
    expect([sentAt, deadAt]).toEqual([[], []]);
  });

  test('other times hold from the moment they are set', async () => {
    const beat = heartbeat();
    beat.heard();
    beat.startSending();
    await clock.advance(100);
    beat.setTimes(20, 50);
    await clock.advance(49);
    expect(sentAt).toEqual([120, 140]);
    expect(deadAt).toEqual([]);
    await clock.advance(1);
    expect(deadAt).toEqual([50]);
  });

  test('while deaf it goes on sending and takes nobody for dead; hearing again, silence counts from anew', async () => {
    const beat = heartbeat();
    beat.heard();
    beat.startSending();
    beat.setDeaf(true);
    await clock.advance(100_500);
    expect(deadAt).toEqual([]);
    expect(sentAt.length).toBe(100);
    beat.setDeaf(false);
    await clock.advance(4_900);
    expect(deadAt).toEqual([]);
    await clock.advance(100);
    expect(deadAt).toEqual([5_000]);
  });

  test('time in which this process was stopped is not the silence of the peer', () => {
    const stalled = new StalledClock();
    const beat = heartbeat(stalled);
    beat.heard();
    beat.startSending();
    stalled.jump(60_000);
    expect(deadAt).toEqual([]);
    expect(sentAt).toEqual([60_000]);
    // What the peer sent meanwhile is read now.
    beat.heard();
    stalled.jump(900);
    expect(deadAt).toEqual([]);
    for (let round = 0; round < 60; round += 1) stalled.jump(100);
    expect(deadAt.length).toBe(1);
  });

  test('a peer that died while this process was stopped is found out an interval later', () => {
    const stalled = new StalledClock();
    heartbeat(stalled).heard();
    stalled.jump(60_000);
    expect(deadAt).toEqual([]);
    for (let round = 0; round < 11; round += 1) stalled.jump(100);
    expect(deadAt.length).toBe(1);
  });
});
