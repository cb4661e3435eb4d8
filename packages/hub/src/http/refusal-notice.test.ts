import { SimClock } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { RefusalNotice } from './refusal-notice.js';

test('each reason once a minute, with how often it was', async () => {
  const clock = new SimClock();
  const told: [string, string, number][] = [];
  const notice = new RefusalNotice(clock, (...given) => told.push(given));
  for (let count = 0; count < 5; count += 1) notice.refused('no token', '/a');
  notice.refused('wrong token', '/b');
  expect(told).toEqual([
    ['no token', '/a', 1],
    ['wrong token', '/b', 1],
  ]);
  await clock.advance(59_000);
  notice.refused('no token', '/a');
  expect(told).toHaveLength(2);
  await clock.advance(1_000);
  notice.refused('no token', '/c');
  expect(told.at(-1)).toEqual(['no token', '/c', 6]);
});
