import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { Pace } from './pace.js';
import { RateCap } from './rate-cap.js';
import { type RateSchedule } from './rate-schedule.js';

const HOUR_MS = 3_600_000;
/** 100 bytes a second from eight to nine, 1000 before, no cap after. */
const MORNING: RateSchedule = {
  windows: [
    { days: null, fromMinute: 480, toMinute: 540, rate: 100 },
    { days: null, fromMinute: 0, toMinute: 480, rate: 1000 },
  ],
  otherwise: null,
  text: '08:00-09:00=100,00:00-08:00=1000,none',
};

/** A wall clock in a zone of its own. */
function wallClock(clock: SimClock, minuteAtStart: number) {
  const startMs = clock.unixMs();
  let shiftMinutes = 0;
  return {
    shift: (minutes: number) => (shiftMinutes += minutes),
    cap: new RateCap(clock, MORNING, (unixMs) => ({
      weekday: 1,
      minute: Math.floor(minuteAtStart + shiftMinutes + (unixMs - startMs) / 60_000) % 1440,
    })),
  };
}

/** When each of several pieces was let through. */
async function takeAll(clock: SimClock, pace: Pace, pieces: readonly number[]): Promise<number[]> {
  const begunMs = clock.monotonicMs();
  const at: number[] = [];
  const all = Promise.all(
    pieces.map(async (bytes) => {
      await pace.take(bytes);
      at.push(Math.round(clock.monotonicMs() - begunMs));
    }),
  );
  await clock.runUntil(() => at.length === pieces.length, HOUR_MS);
  await all;
  return at;
}

describe('a pace', () => {
  it('lets the first piece through, and each next when what went before is paid', async () => {
    const clock = new SimClock();
    expect(await takeAll(clock, new Pace(clock, 1000), [500, 1000, 0, 2000, 1])).toEqual([0, 0, 500, 1500, 3500]);
  });

  it('pays nothing in advance while nobody reads', async () => {
    const clock = new SimClock();
    const pace = new Pace(clock, 1000);
    await takeAll(clock, pace, [1000]);
    await clock.advance(60_000);
    expect(await takeAll(clock, pace, [1000, 1000])).toEqual([0, 1000]);
  });

  it('without a limit nothing waits', async () => {
    const clock = new SimClock();
    expect(await takeAll(clock, new Pace(clock, null), [1e9, 1e9, 1e9])).toEqual([0, 0, 0]);
  });

  it('those who wait go on at the new rate within a second of its change', async () => {
    const clock = new SimClock();
    // One minute to nine: at 100 bytes a second until then, then no cap.
    const pace = new Pace(clock, wallClock(clock, 539).cap);
    const [first, second, third, fourth] = await takeAll(clock, pace, [3000, 2000, 50_000, 1000]);
    expect([first, second, third]).toEqual([0, 30_000, 50_000]);
    expect(fourth).toBeGreaterThanOrEqual(60_000);
    expect(fourth).toBeLessThanOrEqual(61_000);
  });

  it('a wall clock that is put forward or back counts within a second', async () => {
    const clock = new SimClock();
    const wall = wallClock(clock, 479);
    const pace = new Pace(clock, wall.cap);
    expect(wall.cap.bytesPerSecond).toBe(1000);
    // As in spring: an hour is left out, and with it the window.
    wall.shift(61);
    await clock.advance(1_000);
    expect(pace.cap.bytesPerSecond).toBeNull();
    // As in autumn: it comes, and comes again.
    wall.shift(-30);
    await clock.advance(1_000);
    expect(pace.cap.bytesPerSecond).toBe(100);
    expect(pace.cap.schedule).toBe(MORNING.text);
  });

  it('by default it is the wall clock of this host', () => {
    const clock = new SimClock();
    const local = new Date(clock.unixMs());
    const minute = local.getHours() * 60 + local.getMinutes();
    const days = Array.from({ length: 7 }, (_, day) => day === local.getDay());
    const windows = [{ days, fromMinute: minute, toMinute: minute + 1, rate: 7 }];
    expect(new RateCap(clock, { windows, otherwise: 8, text: '' }).bytesPerSecond).toBe(7);
    expect(new RateCap(clock, { windows: [], otherwise: 8, text: '' }).bytesPerSecond).toBe(8);
  });
});
