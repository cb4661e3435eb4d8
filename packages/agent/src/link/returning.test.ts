import { SeededRandomness, SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { Returning } from './returning.js';

interface Begun {
  readonly url: string;
  readonly atMs: number;
  /** The session ends, asking for this wait. */
  readonly end: (askedMs: number | null) => void;
  readonly fail: (error: Error) => void;
}

interface Rig {
  readonly clock: SimClock;
  readonly returning: Returning;
  readonly sessions: Begun[];
  readonly waits: number[];
  readonly failures: string[];
  away: boolean;
  /** Ends the newest session. */
  endNewest: (askedMs?: number | null) => Promise<void>;
}

function rig(urls: readonly string[] = ['one', 'two']): Rig {
  const clock = new SimClock();
  const startMs = clock.monotonicMs();
  const made: Rig = {
    clock,
    sessions: [],
    waits: [],
    failures: [],
    away: false,
    endNewest: async (askedMs = null) => {
      made.sessions.at(-1)?.end(askedMs);
      await clock.advance(0);
    },
    returning: new Returning({
      clock,
      randomness: new SeededRandomness(1),
      urls,
      staysAway: () => made.away,
      session: (url) =>
        new Promise((resolve, reject) => {
          made.sessions.push({ url, atMs: clock.monotonicMs() - startMs, end: resolve, fail: reject });
        }),
      failed: (url, error) => made.failures.push(`${url}: ${error.message}`),
      waits: (_url, delayMs) => made.waits.push(delayMs),
    }),
  };
  return made;
}

function urlsOf({ sessions }: Rig): readonly string[] {
  return sessions.map(({ url }) => url);
}

describe('Returning', () => {
  it('has one session at a time, each hub in its turn, with a wait in between', async () => {
    const made = rig();
    made.returning.start();
    await made.clock.advance(60_000);
    expect(urlsOf(made)).toEqual(['one']);
    for (let count = 0; count < 3; count += 1) {
      const sessions = made.sessions.length;
      await made.endNewest();
      expect(made.sessions.length).toBe(sessions);
      await made.clock.advance(5_000);
    }
    expect(urlsOf(made)).toEqual(['one', 'two', 'one', 'two']);
    expect(made.waits.every((delayMs) => delayMs >= 100 && delayMs <= 5_000)).toBe(true);
  });

  it('waits for as long as the session has asked', async () => {
    const made = rig();
    made.returning.start();
    await made.endNewest(30_000);
    await made.clock.advance(29_999);
    expect(made.sessions.length).toBe(1);
    await made.clock.advance(1);
    expect([made.waits, made.sessions[1]?.atMs]).toEqual([[30_000], 30_000]);
  });

  it('waits longer and longer for a hub that is not there, and briefly again after a session that has lasted', async () => {
    const made = rig(['one']);
    made.returning.start();
    for (let count = 0; count < 12; count += 1) {
      made.sessions.at(-1)?.fail(new Error('refused'));
      await made.clock.advance(5_000);
    }
    expect(made.failures).toEqual(Array.from({ length: 12 }, () => 'one: refused'));
    expect(Math.max(...made.waits)).toBeGreaterThan(1_000);
    await made.clock.advance(20_000);
    await made.endNewest();
    expect(made.waits.at(-1)).toBeLessThanOrEqual(200);
  });

  it('is at the same hub again at once when asked to', async () => {
    const made = rig();
    made.returning.start();
    made.returning.returnAtOnce();
    await made.endNewest();
    expect([urlsOf(made), made.waits]).toEqual([['one', 'one'], []]);
    await made.endNewest();
    await made.clock.advance(5_000);
    expect(urlsOf(made)).toEqual(['one', 'one', 'two']);
  });

  it('stays away until it is woken and may come', async () => {
    const made = rig();
    made.away = true;
    made.returning.start();
    await made.clock.advance(3_600_000);
    made.returning.wake();
    await made.clock.advance(3_600_000);
    expect(made.sessions).toEqual([]);
    made.away = false;
    made.returning.wake();
    await made.clock.advance(0);
    expect(urlsOf(made)).toEqual(['one']);
  });

  it('ends a wait when it is woken', async () => {
    const made = rig();
    made.returning.start();
    await made.endNewest(30_000);
    made.returning.wake();
    await made.clock.advance(0);
    expect(urlsOf(made)).toEqual(['one', 'two']);
    await made.clock.advance(60_000);
    expect(made.sessions.length).toBe(2);
  });

  it('has stopped when the session that was there has ended, and begins no other', async () => {
    const made = rig();
    made.returning.start();
    let hasStopped = false;
    void made.returning.stop().then(() => {
      hasStopped = true;
    });
    await made.clock.advance(60_000);
    expect(hasStopped).toBe(false);
    await made.endNewest();
    await made.clock.advance(60_000);
    expect([hasStopped, made.sessions.length]).toEqual([true, 1]);
  });

  it('stops at once in a wait', async () => {
    const made = rig();
    made.returning.start();
    await made.endNewest(30_000);
    await made.returning.stop();
    await made.clock.advance(60_000);
    expect(made.sessions.length).toBe(1);
  });
});
