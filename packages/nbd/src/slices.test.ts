import { describe, expect, it } from 'vitest';
import { cutSlices } from './slices.js';

const SLICES = ['abc', '', 'd', 'efgh'].map((text) => Buffer.from(text));

describe('cutSlices', () => {
  it('gives every part of the whole, and none of it twice', () => {
    const whole = Buffer.concat(SLICES).toString();
    for (let from = 0; from <= whole.length; from += 1) {
      for (let length = 0; from + length <= whole.length; length += 1) {
        expect(Buffer.concat(cutSlices(SLICES, from, length)).toString()).toBe(whole.slice(from, from + length));
      }
    }
  });

  it('copies nothing and leaves no empty slice where there is something to give', () => {
    const [first, , , last] = SLICES;
    const cut = cutSlices(SLICES, 2, 3);
    expect(cut.map((slice) => slice.toString())).toEqual(['c', 'd', 'e']);
    expect([cut[0]?.buffer, cut[2]?.buffer]).toEqual([first?.buffer, last?.buffer]);
  });
});
