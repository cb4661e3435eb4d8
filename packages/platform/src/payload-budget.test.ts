import { beforeEach, describe, expect, test } from 'vitest';
import { type Claimant, PayloadBudget, type PayloadClaim } from './payload-budget.js';
import { SimClock } from './sim/index.js';

const LIMITS = {
  uncountedBytes: 10,
  smallBytes: 100,
  smallBudgetBytes: 300,
  largeBudgetBytes: 1000,
  lookMs: 1000,
  idleLooks: 3,
  looks: 10,
};

class Peer implements Claimant {
  arrivedBytes = 0;
  isHeldBack = false;
  heard = '';
  readonly claim: PayloadClaim;

  constructor(budget: PayloadBudget) {
    this.claim = budget.claimFor(this);
  }

  admitted(): void {
    this.heard += 'admitted';
  }

  overdue(reason: string): void {
    this.heard = reason;
    this.claim.giveBack();
  }
}

let clock: SimClock;
let budget: PayloadBudget;
const peers = (count: number): Peer[] => Array.from({ length: count }, () => new Peer(budget));
/** What each heard that was told anything. */
const heard = (...some: Peer[]): string[] => some.map((peer) => peer.heard);

beforeEach(() => {
  clock = new SimClock();
  budget = new PayloadBudget(clock, LIMITS);
});

describe('a budget for payloads that have not come whole (BOUND)', () => {
  test('who finds no room waits in line, and is let in one after the other, in a turn of its own', async () => {
    const [a, b, c, d] = peers(4) as [Peer, Peer, Peer, Peer];
    expect([a, b, c, d].map(({ claim }) => claim.take(500))).toEqual([true, true, false, false]);
    expect([budget.usedBytes, budget.waiting]).toEqual([1000, 2]);
    a.claim.giveBack();
    expect(heard(c, d)).toEqual(['', '']);
    await Promise.resolve();
    expect(heard(c, d)).toEqual(['admitted', '']);
    expect(budget.usedBytes).toBe(1000);
    for (const { claim } of [b, c, d]) claim.giveBack();
    expect([budget.usedBytes, budget.waiting]).toEqual([0, 0]);
  });

  test('one that is larger than the budget is let in alone, and one that would fit does not overtake it', async () => {
    const [a, huge, c] = peers(3) as [Peer, Peer, Peer];
    expect([a.claim.take(101), huge.claim.take(5000), c.claim.take(101)]).toEqual([true, false, false]);
    a.claim.giveBack();
    await Promise.resolve();
    expect(heard(huge, c)).toEqual(['admitted', '']);
    huge.claim.giveBack();
    await Promise.resolve();
    expect(heard(c)).toEqual(['admitted']);
  });

  test('large payloads that stop halfway hold up no small ones, and tiny ones are not counted', () => {
    const large = peers(3);
    expect(large.map(({ claim }) => claim.take(900))).toEqual([true, false, false]);
    const small = peers(4);
    expect(small.map(({ claim }) => claim.take(100))).toEqual([true, true, true, false]);
    expect(peers(100).every(({ claim }) => claim.take(10))).toBe(true);
    expect(budget.usedBytes).toBe(1200);
  });

  test('a payload may take for ever while nobody waits; once others do, one that brings nothing is overdue', async () => {
    const [stuck, lively, other] = peers(3) as [Peer, Peer, Peer];
    stuck.claim.take(500);
    lively.claim.take(500);
    stuck.arrivedBytes = 7;
    await clock.advance(3_600_000);
    expect(heard(stuck, lively)).toEqual(['', '']);
    other.claim.take(500);
    for (let look = 0; look < 3; look += 1) {
      expect(heard(stuck, lively, other)).toEqual(['', '', '']);
      lively.arrivedBytes += 1;
      await clock.advance(1000);
    }
    expect(heard(stuck, lively, other)).toEqual([
      'of a payload of 500 bytes 7 have come, none for 3 s, and others wait',
      '',
      'admitted',
    ]);
    expect(clock.pendingTimers).toBe(0);
  });

  test('one that comes in drops is overdue too, in the end; one that is not read for our own reasons is not', async () => {
    const [drip, heldBack, other] = peers(3) as [Peer, Peer, Peer];
    drip.claim.take(600);
    heldBack.claim.take(300);
    heldBack.isHeldBack = true;
    other.claim.take(600);
    for (let look = 0; look < 9; look += 1) {
      drip.arrivedBytes += 1;
      await clock.advance(1000);
    }
    expect(heard(drip, heldBack, other)).toEqual(['', '', '']);
    drip.arrivedBytes += 1;
    await clock.advance(1000);
    expect(drip.heard).toBe('of a payload of 600 bytes 10 have come, while others have waited for 10 s');
    expect(heard(heldBack, other)).toEqual(['', 'admitted']);
  });

  test('one that brings something between two looks is given as many again', async () => {
    const [holder, other] = peers(2) as [Peer, Peer];
    holder.claim.take(900);
    other.claim.take(900);
    await clock.advance(2000);
    holder.arrivedBytes += 1;
    await clock.advance(3000);
    expect(holder.heard).toBe('');
    await clock.advance(1000);
    expect(holder.heard).not.toBe('');
  });

  test('one that leaves while it waits is not let in, and frees nothing', async () => {
    const [a, b, c] = peers(3) as [Peer, Peer, Peer];
    a.claim.take(900);
    b.claim.take(900);
    c.claim.take(900);
    b.claim.giveBack();
    expect([budget.usedBytes, budget.waiting]).toEqual([900, 1]);
    a.claim.giveBack();
    c.claim.giveBack();
    await Promise.resolve();
    // It was let in, and had left before it was told.
    expect(heard(b, c)).toEqual(['', '']);
    expect([budget.usedBytes, budget.waiting, clock.pendingTimers]).toEqual([0, 0, 0]);
  });
});
