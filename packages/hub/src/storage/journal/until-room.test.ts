import { StorageFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { UntilRoom } from './until-room.js';

const FULL = new StorageFault('disk-full', 'no space', { retryable: true });

/** An attempt that fails with these, one after the other, and then succeeds; and what is said meanwhile. */
class Room {
  readonly clock = new SimClock();
  readonly said: string[] = [];
  over = false;
  readonly until: UntilRoom;
  readonly attempt: () => Promise<void>;

  constructor(failures: readonly Error[]) {
    const left = [...failures];
    this.attempt = () => {
      this.said.push(`try at ${this.clock.monotonicMs()}`);
      const failure = left.shift();
      return failure === undefined ? Promise.resolve() : Promise.reject(failure);
    };
    this.until = new UntilRoom(this.clock, {
      full: (fault) => {
        this.said.push(`full: ${fault.code}`);
        return Promise.resolve();
      },
      hasRoom: () => void this.said.push('room'),
      isOver: () => this.over,
    });
  }
}

test('want of room is tried again, less and less often, and said once when it begins and when it ends', async () => {
  const { clock, until, said, attempt } = new Room([FULL, FULL, FULL]);
  const done = until.run(attempt);
  await clock.advance(350);
  expect(until.full).toBe(true);
  await clock.advance(1000);
  expect(await done).toBe(true);
  expect(until.full).toBe(false);
  expect(said).toEqual(['try at 0', 'full: disk-full', 'try at 100', 'try at 300', 'try at 700', 'room']);
});

test('what is told of room is tried at once', async () => {
  const { clock, until, said, attempt } = new Room([FULL]);
  const done = until.run(attempt);
  await clock.advance(10);
  until.retryNow();
  expect(await done).toBe(true);
  expect(said).toEqual(['try at 0', 'full: disk-full', 'try at 10', 'room']);
});

test('nothing is tried any more when it is over', async () => {
  const place = new Room([FULL, FULL]);
  const done = place.until.run(place.attempt);
  await place.clock.advance(10);
  place.over = true;
  place.until.retryNow();
  expect(await done).toBe(false);
  expect(place.said).toEqual(['try at 0', 'full: disk-full']);
});

test('another failure is not tried again', async () => {
  const broken = new StorageFault('io-error', 'broken');
  const { until, said, attempt } = new Room([broken]);
  await expect(until.run(attempt)).rejects.toBe(broken);
  expect(said).toEqual(['try at 0']);
});
