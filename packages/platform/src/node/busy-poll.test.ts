import { describe, expect, it } from 'vitest';
import { BusyPoll } from './busy-poll.js';

/** A loop whose turns take a microsecond each. */
function setUp(windowMs = 0.05) {
  const turns: (() => void)[] = [];
  const time = { nowMs: 1000 };
  const expected = { one: true };
  const poll = new BusyPoll(windowMs, { nowMs: () => time.nowMs, nextTurn: (callback) => turns.push(callback) });
  poll.expectsOne = () => expected.one;
  return {
    poll,
    expected,
    /** Lets time pass; returns how many turns of it were spent looking. */
    pass: (ms: number): number => {
      let looked = 0;
      const end = time.nowMs + ms;
      for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) {
        time.nowMs += 0.001;
        looked += 1;
        turn();
        if (time.nowMs >= end) break;
      }
      time.nowMs = Math.max(time.nowMs, end);
      return looked;
    },
  };
}

describe('busy polling', () => {
  it('looks for the next event as long as the window, from the last one on, and then no more', () => {
    const { poll, pass } = setUp();
    poll.noted();
    poll.noted();
    expect(pass(0.02)).toBeGreaterThan(15);
    poll.noted();
    const looked = pass(1);
    expect(looked).toBeGreaterThan(40);
    expect(looked).toBeLessThan(60);
    expect(pass(1)).toBe(0);
  });

  it('does not look where nothing is expected, nor with a window of 0', () => {
    const idle = setUp();
    idle.expected.one = false;
    idle.poll.noted();
    expect(idle.pass(1)).toBe(0);
    const never = setUp(0);
    never.poll.noted();
    never.poll.noted();
    expect(never.pass(1)).toBe(0);
  });

  it('stops at once when more comes under way', () => {
    const { poll, expected, pass } = setUp();
    poll.noted();
    poll.noted();
    pass(0.01);
    expected.one = false;
    expect(pass(1)).toBe(1);
  });

  it('gives up where events come late, and begins again when they come closer', () => {
    const { poll, pass } = setUp();
    let looked = 0;
    for (let at = 0; at < 1000; at += 1) {
      poll.noted();
      looked += pass(0.2);
    }
    expect(looked).toBeLessThan(500);
    for (let at = 0; at < 20; at += 1) {
      poll.noted();
      pass(0.02);
    }
    poll.noted();
    expect(pass(0.02)).toBeGreaterThan(15);
  });

  it('gives up too where only every other event comes in time', () => {
    const { poll, pass } = setUp();
    for (let at = 0; at < 100; at += 1) {
      poll.noted();
      pass(at % 2 === 0 ? 0.2 : 0.01);
    }
    poll.noted();
    expect(pass(1)).toBe(0);
  });
});
