import { expect, it } from 'vitest';
import { rpoText } from './rpo-text.js';

it.each([
  ['known', { rpoSeconds: 0, rpoAtLeastSeconds: 0, consistentSeq: 5 }, '0 ms'],
  ['known', { rpoSeconds: 2.5, rpoAtLeastSeconds: 2.5, consistentSeq: 5 }, '2.5 s'],
  ['a bound, in whatever state', { rpoSeconds: null, rpoAtLeastSeconds: 12, consistentSeq: 5 }, '≥ 12 s'],
  ['no point that could be opened', { rpoSeconds: null, rpoAtLeastSeconds: 12, consistentSeq: null }, '?'],
  ['nothing known yet', { rpoSeconds: null, rpoAtLeastSeconds: 0, consistentSeq: 5 }, '?'],
] as const)('%s: %j is shown as %s', (_what, status, text) => {
  expect(rpoText(status)).toBe(text);
});
