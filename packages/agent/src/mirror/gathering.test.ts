import { SimClock } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { GATHER_BYTES, GATHER_MS, Gathering } from './gathering.js';

function setUp(): { clock: SimClock; gathering: Gathering; sent: number[] } {
  const clock = new SimClock();
  const sent: number[] = [];
  return { clock, sent, gathering: new Gathering(clock, () => sent.push(clock.monotonicMs())) };
}

it('what comes within a millisecond leaves together, a millisecond after the first', async () => {
  const { clock, gathering, sent } = setUp();
  gathering.add(4096);
  await clock.advance(GATHER_MS / 2);
  gathering.add(4096);
  expect(sent).toEqual([]);
  await clock.advance(GATHER_MS / 2);
  expect(sent).toEqual([GATHER_MS]);
  await clock.advance(10);
  gathering.add(100);
  await clock.advance(10);
  expect(sent).toEqual([GATHER_MS, 11 * GATHER_MS + GATHER_MS]);
});

it('much leaves at once, and nothing is sent again when the millisecond is over', async () => {
  const { clock, gathering, sent } = setUp();
  gathering.add(GATHER_BYTES / 2);
  gathering.add(GATHER_BYTES / 2);
  expect(sent).toEqual([0]);
  await clock.advance(10 * GATHER_MS);
  expect(sent).toEqual([0]);
});

it('what somebody waits for leaves at once', async () => {
  const { clock, gathering, sent } = setUp();
  gathering.add(88);
  gathering.leave();
  gathering.add(88);
  await clock.advance(GATHER_MS);
  expect(sent).toEqual([0, GATHER_MS]);
});
