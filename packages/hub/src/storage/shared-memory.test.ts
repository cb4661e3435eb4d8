import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type MemoryShare, SharedMemory } from './shared-memory.js';

function sharesOf(memory: SharedMemory, ...used: readonly number[]): MemoryShare[] {
  const shares = used.map(() => memory.open(() => undefined));
  for (const [index, share] of shares.entries()) share.use(used[index] ?? 0);
  return shares;
}

describe('memory that all groups share (BOUND)', () => {
  it('one alone may take all of it, and what others leave', () => {
    const memory = new SharedMemory(1000);
    const [one, two] = sharesOf(memory, 1000, 0) as [MemoryShare, MemoryShare];
    expect([one.isOver, two.limitBytes]).toEqual([false, 0]);
    two.use(100);
    // 900 + 100: whoever uses little need not give way.
    expect([one.isOver, one.limitBytes, two.isOver]).toEqual([true, 900, false]);
    one.use(800);
    expect([one.isOver, two.isOver, memory.usedBytes]).toEqual([false, false, 900]);
  });

  it('more than twice the total is a harder limit, for those above their part of that', () => {
    const memory = new SharedMemory(1000);
    const [one, two, three] = sharesOf(memory, 1500, 400, 50) as [MemoryShare, MemoryShare, MemoryShare];
    expect([one.isFarOver, memory.isExhausted]).toEqual([false, false]);
    one.use(1600);
    expect([one, two, three].map((share) => [share.isOver, share.isFarOver])).toEqual([
      [true, true],
      [false, false],
      [false, false],
    ]);
    one.close();
    expect([memory.usedBytes, memory.isExhausted, two.isOver]).toEqual([450, false, false]);
  });

  it('limits that may have changed are told to all, in a turn of its own', async () => {
    const memory = new SharedMemory(1000);
    let told = 0;
    const quiet = memory.open(() => (told += 1));
    const other = memory.open(() => undefined);
    quiet.use(600);
    other.use(300);
    await Promise.resolve();
    expect(told).toBe(0);
    other.use(600);
    expect(told).toBe(0);
    await Promise.resolve();
    expect([told, quiet.limitBytes]).toEqual([1, 500]);
    other.close();
    await Promise.resolve();
    expect([told, quiet.limitBytes]).toEqual([2, 1000]);
  });

  it('whatever is used: limits add up to the total, the smaller keep what they have, and giving way to the limits is enough', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2000), { minLength: 1, maxLength: 20 }), (used) => {
        const memory = new SharedMemory(1000);
        const shares = sharesOf(memory, ...used);
        // What is told in small steps may be a thirty-second behind.
        for (const share of shares) {
          share.use(share.usedBytes + 40);
          share.use(share.usedBytes - 40);
        }
        const sum = used.reduce((all, own) => all + own, 0);
        const over = shares.filter((share) => share.isOver);
        if (sum <= 750) expect(over).toEqual([]);
        if (sum > 1040) expect(over.length).toBeGreaterThan(0);
        const limits = over.map((share) => share.limitBytes);
        for (const share of shares) {
          if (limits.length > 0 && share.usedBytes < Math.min(...limits)) expect(share.isOver).toBe(false);
        }
        for (const share of over) share.use(Math.floor(share.limitBytes));
        expect(memory.usedBytes).toBeLessThanOrEqual(Math.max(1040, sum <= 1000 ? sum : 0));
      }),
    );
  });
});
