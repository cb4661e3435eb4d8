import { describe, expect, it } from 'vitest';
import { inJournalOrder } from './journal-order.js';

describe('pieces in the journal’s order', () => {
  it.each([0, 1, 2, 7, 5000])('sorts %i pieces by position', (count) => {
    const pieces = Array.from({ length: count }, (_, index) => ({
      position: 4096 + ((index * 7919) % (count + 1)) * 100,
    }));
    const sorted = [...pieces].sort((one, other) => one.position - other.position);
    expect(inJournalOrder(pieces)).toEqual(sorted);
  });

  it('positions beyond 2^32 apart are told apart to a part of their range', () => {
    const pieces = [2 ** 50, 5, 2 ** 40, 2 ** 50 - 2 ** 30].map((position) => ({ position }));
    expect(inJournalOrder(pieces).map(({ position }) => position)).toEqual([5, 2 ** 40, 2 ** 50 - 2 ** 30, 2 ** 50]);
  });
});
