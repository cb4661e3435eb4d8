import { expect, test } from 'vitest';
import { figuresOf, resyncCause, type ResyncsByCause } from './resync-cause.js';

test.each([
  ['first sync', 'first-sync'],
  ['first sync from a seed', 'seed'],
  ['full: asked for by the operator; gone on with (resync-by-bitmap: the hub ends at number 7)', 'full'],
  ['compare: asked for at the hub', 'compare'],
  ['compare-everything: tracking is not believed', 'compare-everything'],
  ['resync-by-bitmap: marks say what differs', 'resync-by-bitmap'],
  ['pulled-ahead', 'pulled-ahead'],
  ['verify: volume disk0 differs, 4096 bytes at 0', 'verify'],
  ['volume disk0 has grown from 1 to 2 bytes', 'grown'],
  ['what a later version says', 'other'],
  ['', 'other'],
])('the cause "%s" is %s', (cause, expected) => {
  expect(resyncCause(cause)).toBe(expected);
});

test('figures add up by cause', () => {
  const counted: ResyncsByCause = {};
  figuresOf(counted, 'full: once').sentBytes += 5;
  const again = figuresOf(counted, 'full: twice');
  again.sentBytes += 2;
  again.ended += 1;
  figuresOf(counted, 'first sync').comparedBytes += 3;
  expect(counted).toEqual({
    full: { sentBytes: 7, comparedBytes: 0, ended: 1 },
    'first-sync': { sentBytes: 0, comparedBytes: 3, ended: 0 },
  });
});
