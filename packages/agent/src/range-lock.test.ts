import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type RangeHolder, RangeLock, withRange } from './range-lock.js';

class Holder implements RangeHolder {
  holderIndex = -1;
  locked = false;
  readonly rangeStart: number;
  readonly rangeEnd: number;
  constructor(rangeStart: number, rangeEnd: number) {
    this.rangeStart = rangeStart;
    this.rangeEnd = rangeEnd;
  }
  rangeLocked(): void {
    this.locked = true;
  }
}

describe('range lock (promise ORD)', () => {
  it('lets ranges that do not overlap be held together', () => {
    const lock = new RangeLock();
    expect(lock.acquire(new Holder(0, 10))).toBe(true);
    expect(lock.acquire(new Holder(10, 20))).toBe(true);
    expect(lock.heldCount).toBe(2);
  });

  it('makes an overlapping range wait until the first is released', () => {
    const lock = new RangeLock();
    const first = new Holder(0, 10);
    const second = new Holder(5, 15);
    lock.acquire(first);
    expect(lock.acquire(second)).toBe(false);
    expect(second.locked).toBe(false);
    lock.release(first);
    expect(second.locked).toBe(true);
  });

  it('does not let a newcomer overtake a waiter that it overlaps', () => {
    const lock = new RangeLock();
    const first = new Holder(0, 10);
    const waiter = new Holder(5, 25);
    const newcomer = new Holder(20, 30);
    lock.acquire(first);
    lock.acquire(waiter);
    expect(lock.acquire(newcomer)).toBe(false);
    lock.release(first);
    expect(waiter.locked).toBe(true);
    expect(newcomer.locked).toBe(false);
    lock.release(waiter);
    expect(newcomer.locked).toBe(true);
  });

  it('gives the range back when the work under it throws', async () => {
    const lock = new RangeLock();
    await expect(withRange(lock, 0, 10, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(lock.heldCount).toBe(0);
  });

  it('never has two holders overlap, and admits overlapping ones in their order', () => {
    const range = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 12 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(range, fc.boolean()), { maxLength: 60 }), (steps) => {
        const lock = new RangeLock();
        const all: Holder[] = [];
        const held = (): Holder[] => all.filter((holder) => holder.holderIndex >= 0);
        for (const [[start, length], release] of steps) {
          const holder = new Holder(start, start + length);
          all.push(holder);
          if (lock.acquire(holder)) holder.locked = true;
          if (release) {
            const oldest = held()[0];
            if (oldest !== undefined) lock.release(oldest);
          }
          const now = held();
          for (const one of now) {
            for (const other of now) {
              if (one !== other) expect(one.rangeStart < other.rangeEnd && other.rangeStart < one.rangeEnd).toBe(false);
            }
          }
          for (const [at, one] of all.entries()) {
            for (const later of all.slice(at + 1)) {
              const overlap = one.rangeStart < later.rangeEnd && later.rangeStart < one.rangeEnd;
              if (overlap && later.locked) expect(one.locked).toBe(true);
            }
          }
        }
        for (let holder = held()[0]; holder !== undefined; holder = held()[0]) lock.release(holder);
        expect(all.every((holder) => holder.locked)).toBe(true);
        expect(lock.waitingCount).toBe(0);
      }),
    );
  });
});
