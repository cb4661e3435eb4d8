import { describe, expect, it } from 'vitest';
import { sleep } from '../clock.js';
import { SimClock } from './clock.js';
import { SeededRandomness } from './randomness.js';

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

  it('serves several who wait for the time at once, each in the moment that it waits for', async () => {
    const clock = new SimClock();
    const seen: string[] = [];
    const load = (async () => {
      for (let round = 0; round < 3; round += 1) {
        let isOver = false;
        clock.after(10, () => {
          isOver = true;
        });
        await clock.runUntil(() => isOver);
        seen.push(`load at ${clock.monotonicMs()}`);
      }
    })();
    for (let round = 0; round < 100; round += 1) clock.after(round, () => undefined);
    await clock.advance(25);
    seen.push(`test at ${clock.monotonicMs()}`);
    await load;
    expect(seen).toEqual(['load at 10', 'load at 20', 'test at 25', 'load at 30']);
  });

  it('keeps the order of many timers, some of them cancelled', async () => {
    const clock = new SimClock();
    const random = new SeededRandomness(3);
    const expected: { dueMs: number; index: number }[] = [];
    const ran: number[] = [];
    for (let index = 0; index < 2000; index += 1) {
      const dueMs = random.below(100);
      const timer = clock.after(dueMs, () => ran.push(index));
      if (random.chance(0.7)) timer.cancel();
      else expected.push({ dueMs, index });
    }
    expect(clock.pendingTimers).toBe(expected.length);
    await clock.advance(100);
    expected.sort((a, b) => a.dueMs - b.dueMs || a.index - b.index);
    expect(ran).toEqual(expected.map(({ index }) => index));
  });

  it('tells whoever waits for the time of a timer that threw', async () => {
    const clock = new SimClock();
    clock.after(5, () => {
      throw new Error('a bug');
    });
    await expect(Promise.allSettled([clock.advance(10), clock.runUntil(() => false)])).resolves.toMatchObject([
      { status: 'rejected', reason: { message: 'a bug' } },
      { status: 'rejected', reason: { message: 'a bug' } },
    ]);
    await clock.advance(1);
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
