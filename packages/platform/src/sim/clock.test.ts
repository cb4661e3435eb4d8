import { describe, expect, it } from 'vitest';
import { sleep } from '../clock.js';
import { SimClock } from './clock.js';

describe('SimClock', () => {
  it('runs timers in order of their time, and of their making when they fall due together', async () => {
    const clock = new SimClock();
    const ran: string[] = [];
    clock.after(20, () => ran.push(`late at ${clock.monotonicMs()}`));
    clock.after(10, () => ran.push(`first at ${clock.monotonicMs()}`));
    clock.after(10, () => ran.push(`second at ${clock.monotonicMs()}`));
    await clock.advance(15);
    expect(ran).toEqual(['first at 10', 'second at 10']);
    expect(clock.monotonicMs()).toBe(15);
    await clock.advance(5);
    expect(ran).toEqual(['first at 10', 'second at 10', 'late at 20']);
  });

  it('lets promises settle between timers, so that a chain of sleeps takes no more than its time', async () => {
    const clock = new SimClock();
    let rounds = 0;
    const loop = (async () => {
      for (; rounds < 100; rounds += 1) await sleep(clock, 1);
    })();
    await clock.advance(100);
    expect(rounds).toBe(100);
    await loop;
  });

  it('does not run a timer that was cancelled, even by one due at the same time', async () => {
    const clock = new SimClock();
    let ran = false;
    clock.after(1, () => timer.cancel());
    const timer = clock.after(1, () => {
      ran = true;
    });
    await clock.advance(5);
    expect(ran).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  it('lets the wall clock jump while monotonic time goes on', async () => {
    const clock = new SimClock({ unixMs: 1_000_000 });
    await clock.advance(10);
    clock.jumpUnix(-500_000);
    expect([clock.monotonicMs(), clock.unixMs()]).toEqual([10, 500_010]);
  });

  it('says so when what is waited for cannot come', async () => {
    const clock = new SimClock();
    await expect(clock.runUntil(() => false)).rejects.toThrow('no timer is left');
    const again = (): void => void clock.after(10, again);
    again();
    await expect(clock.runUntil(() => false, 100)).rejects.toThrow('100 ms have passed');
    await clock.runUntil(() => clock.monotonicMs() >= 150);
  });
});
