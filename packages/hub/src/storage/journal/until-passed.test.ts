import { StorageFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { isWantOfFile } from '../passing-faults.js';
import { UntilPassed } from './until-passed.js';

const FULL = new StorageFault('disk-full', 'no space', { retryable: true });

/** An attempt that fails with these, one after the other, and then succeeds; and what is said meanwhile. */
class Disk {
  readonly clock = new SimClock();
  readonly said: string[] = [];
  over = false;
  readonly until: UntilPassed;
  readonly attempt: () => Promise<void>;

  constructor(failures: readonly Error[]) {
    const left = [...failures];
    this.attempt = () => {
      this.said.push(`try at ${this.clock.monotonicMs()}`);
      const failure = left.shift();
      return failure === undefined ? Promise.resolve() : Promise.reject(failure);
    };
    this.until = new UntilPassed(this.clock, {
      waits: (fault) => {
        this.said.push(`waits: ${fault.code}`);
        return Promise.resolve();
      },
      goesOn: () => void this.said.push('goes on'),
      isOver: () => this.over,
    });
  }
}

test('want of room is tried again, less and less often, and said once when it begins and when it ends', async () => {
  const { clock, until, said, attempt } = new Disk([FULL, FULL, FULL]);
  const done = until.run(attempt);
  await clock.advance(350);
  expect(until.waitsFor).toBe(FULL);
  await clock.advance(1000);
  expect(await done).toBe(true);
  expect(until.waitsFor).toBeNull();
  expect(said).toEqual(['try at 0', 'waits: disk-full', 'try at 100', 'try at 300', 'try at 700', 'goes on']);
});

test('what is told of room is tried at once', async () => {
  const { clock, until, said, attempt } = new Disk([FULL]);
  const done = until.run(attempt);
  await clock.advance(10);
  until.retryNow();
  expect(await done).toBe(true);
  expect(said).toEqual(['try at 0', 'waits: disk-full', 'try at 10', 'goes on']);
});

test('nothing is tried any more when it is over', async () => {
  const place = new Disk([FULL, FULL]);
  const done = place.until.run(place.attempt);
  await place.clock.advance(10);
  place.over = true;
  place.until.retryNow();
  expect(await done).toBe(false);
  expect(place.said).toEqual(['try at 0', 'waits: disk-full']);
});

test('another failure is not tried again', async () => {
  const broken = new StorageFault('io-error', 'broken');
  const { until, said, attempt } = new Disk([broken]);
  await expect(until.run(attempt)).rejects.toBe(broken);
  expect(said).toEqual(['try at 0']);
});

test("what may pass is the caller's to say; when it is something else that is waited for, that is said", async () => {
  const handles = new StorageFault('too-many-files', 'no handle', { retryable: true });
  const { clock, until, said, attempt } = new Disk([handles, handles, FULL]);
  await expect(until.run(attempt)).rejects.toBe(handles);
  const done = until.run(attempt, isWantOfFile);
  await clock.advance(1000);
  expect(await done).toBe(true);
  expect(said.filter((line) => !line.startsWith('try'))).toEqual([
    'waits: too-many-files',
    'waits: disk-full',
    'goes on',
  ]);
});
