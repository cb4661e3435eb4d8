import { describe, expect, it } from 'vitest';
import { sleep } from './clock.js';
import { InTurn } from './in-turn.js';
import { SimClock } from './sim/clock.js';

describe('InTurn', () => {
  it('begins a task when the one before it has ended, however long that takes', async () => {
    const clock = new SimClock();
    const inTurn = new InTurn();
    const seen: string[] = [];
    const task = (name: string, tookMs: number) => async (): Promise<string> => {
      seen.push(`${name} begins`);
      await sleep(clock, tookMs);
      seen.push(`${name} ends`);
      return name;
    };
    const outcomes = Promise.all([inTurn.run(task('slow', 100)), inTurn.run(task('quick', 1))]);
    await clock.advance(50);
    expect(seen).toEqual(['slow begins']);
    await clock.advance(100);
    expect(seen).toEqual(['slow begins', 'slow ends', 'quick begins', 'quick ends']);
    expect(await outcomes).toEqual(['slow', 'quick']);
  });

  it('gives a failure to who asked for the task, and to nobody after it', async () => {
    const inTurn = new InTurn();
    const failing = inTurn.run(() => Promise.reject(new Error('no')));
    const next = inTurn.run(() => Promise.resolve('done'));
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('done');
  });

  it('is settled when all have ended, also those that failed', async () => {
    const inTurn = new InTurn();
    let ended = 0;
    const run = inTurn.run(async () => {
      await Promise.resolve();
      ended += 1;
      throw new Error('no');
    });
    run.catch(() => undefined);
    await inTurn.settled();
    expect(ended).toBe(1);
  });
});
