import { expect, it } from 'vitest';
import { ByteBudget } from './byte-budget.js';

it('lets in what fits, and one that never would when nothing else is there', () => {
  const budget = new ByteBudget();
  expect(budget.take(10, 4)).toBe(true);
  expect(budget.take(1, 4)).toBe(false);
  budget.giveBack(10);
  expect(budget.take(3, 4)).toBe(true);
  expect(budget.take(1, 4)).toBe(true);
  expect(budget.take(1, 4)).toBe(false);
});

it('tells all who wait when something is given back', async () => {
  const budget = new ByteBudget();
  budget.take(4, 4);
  const told: string[] = [];
  const waiting = ['a', 'b'].map(async (name) => {
    await budget.freed();
    told.push(name);
  });
  await Promise.resolve();
  expect(told).toEqual([]);
  budget.giveBack(4);
  await Promise.all(waiting);
  expect(told).toEqual(['a', 'b']);
});
