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

/** Waits in line as the copier's lanes do, and does with the room what `use` says. */
function queue(budget: ByteBudget, names: readonly string[], use: (name: string) => void): Promise<void>[] {
  return names.map(async (name) => {
    await budget.freed();
    use(name);
  });
}

it('tells one at a time, as long as there is room', async () => {
  const budget = new ByteBudget();
  budget.take(4, 4);
  const took: string[] = [];
  const [a, b, c] = queue(budget, ['a', 'b', 'c'], (name) => {
    if (budget.take(2, 4)) took.push(name);
  });
  await Promise.resolve();
  expect(took).toEqual([]);
  budget.giveBack(4);
  await Promise.all([a, b]);
  expect(took).toEqual(['a', 'b']);
  expect(budget.take(1, 4)).toBe(false);
  budget.giveBack(2);
  await c;
  expect(took).toEqual(['a', 'b', 'c']);
});

it('goes on to the next when one does not want the room any more', async () => {
  const budget = new ByteBudget();
  budget.take(4, 4);
  const told: string[] = [];
  const waiting = queue(budget, ['a', 'b', 'c'], (name) => {
    told.push(name);
    budget.passOn();
  });
  budget.giveBack(4);
  await Promise.all(waiting);
  expect(told).toEqual(['a', 'b', 'c']);
});
