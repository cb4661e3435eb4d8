/**
 * How much memory payloads may take that have not come whole, of all connections together. Whoever has read the
 * beginning of one claims its whole length before it reads on; where there is no room it waits in line, unread.
 *
 * Always holds:
 *  - what is claimed stays within the budget, but for one claim that is let in alone, however large;
 *  - a claim that was let in has room for all of its payload: no two can wait for each other;
 *  - large claims and small ones have budgets of their own, each in the order of asking, so that a few large payloads that
 *    stop halfway hold up no small one; what fits a connection's smallest receive buffer is not counted;
 *  - while nobody waits a payload may take for ever, for a VM may be stopped in the middle of a write. While others wait, one
 *    that brings nothing, or is not whole in time, is overdue.
 * Must not know: what the bytes mean, how a connection is ended.
 */
import type { Clock, Timer } from './clock.js';

const MIB = 1024 * 1024;

export interface PayloadLimits {
  /** Payloads up to this length are not counted: a connection has so much for itself. */
  readonly uncountedBytes: number;
  /** The largest payload that counts as a small one. */
  readonly smallBytes: number;
  readonly smallBudgetBytes: number;
  readonly largeBudgetBytes: number;
  /** How often it is looked who brings nothing, while others wait. */
  readonly lookMs: number;
  /** Looks in a row that find nothing new of a payload: then it is overdue. More than one, for a process that was stopped looks before it reads. */
  readonly idleLooks: number;
  /** Looks, all in all, after which a payload must be whole. */
  readonly looks: number;
}

/** Half-sent payloads hold 48 MiB in all; docs/design.md, "Payloads that have not come whole", says why so. */
export const DEFAULT_PAYLOAD_LIMITS: PayloadLimits = {
  uncountedBytes: 8 * 1024,
  smallBytes: 256 * 1024,
  smallBudgetBytes: 16 * MIB,
  largeBudgetBytes: 32 * MIB,
  lookMs: 1_000,
  idleLooks: 5,
  looks: 30,
};

/** A connection, as its claim sees it. */
export interface Claimant {
  /** Bytes of the payload that have come. */
  readonly arrivedBytes: number;
  /** It does not read for reasons of its own: nothing can come, and that is not its peer's fault. */
  readonly isHeldBack: boolean;
  /** There is room now, after the claim had to wait. Called in a turn of its own. */
  admitted(): void;
  /** Others wait and its payload does not come: the connection is to be ended. */
  overdue(reason: string): void;
}

export class PayloadBudget {
  readonly limits: PayloadLimits;
  readonly #small: Lane;
  readonly #large: Lane;

  constructor(clock: Clock, limits: Partial<PayloadLimits> = {}) {
    this.limits = { ...DEFAULT_PAYLOAD_LIMITS, ...limits };
    this.#small = new Lane(clock, this.limits, this.limits.smallBudgetBytes);
    this.#large = new Lane(clock, this.limits, this.limits.largeBudgetBytes);
  }

  /** Bytes that are claimed and let in. */
  get usedBytes(): number {
    return this.#small.usedBytes + this.#large.usedBytes;
  }

  /** Claims in line. */
  get waiting(): number {
    return this.#small.waiting.size + this.#large.waiting.size;
  }

  /** A claim to be used for one payload after the other of a connection. */
  claimFor(claimant: Claimant): PayloadClaim {
    return new PayloadClaim(this, claimant);
  }

  /** For claims: where one of so many bytes belongs; null when it need not be counted. */
  laneOf(bytes: number): Lane | null {
    if (bytes <= this.limits.uncountedBytes) return null;
    return bytes <= this.limits.smallBytes ? this.#small : this.#large;
  }
}

export class PayloadClaim {
  readonly claimant: Claimant;
  /** What the last look found, and how often it was looked. For the lane only. */
  seenBytes = 0;
  idleLooks = 0;
  looks = 0;
  readonly #budget: PayloadBudget;
  #bytes = 0;
  #lane: Lane | null = null;

  constructor(budget: PayloadBudget, claimant: Claimant) {
    this.#budget = budget;
    this.claimant = claimant;
  }

  /** Of the payload that is claimed, or waits; 0 when there is none, or it need not be counted. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True: read on. False: read nothing until `admitted`. A payload that is claimed already is not claimed again. */
  take(bytes: number): boolean {
    if (this.#bytes > 0) return true;
    const lane = this.#budget.laneOf(bytes);
    if (lane === null) return true;
    this.#bytes = bytes;
    this.#lane = lane;
    return lane.take(this);
  }

  /** The payload is whole, or is wanted no longer. Harmless when nothing is claimed. */
  giveBack(): void {
    const lane = this.#lane;
    if (lane === null) return;
    this.#lane = null;
    lane.giveBack(this);
    this.#bytes = 0;
  }
}

/** One budget, and the line in front of it. */
class Lane {
  usedBytes = 0;
  readonly waiting = new Set<PayloadClaim>();
  readonly #clock: Clock;
  readonly #limits: PayloadLimits;
  readonly #budgetBytes: number;
  readonly #holders = new Set<PayloadClaim>();
  #look: Timer | null = null;

  constructor(clock: Clock, limits: PayloadLimits, budgetBytes: number) {
    this.#clock = clock;
    this.#limits = limits;
    this.#budgetBytes = budgetBytes;
  }

  take(claim: PayloadClaim): boolean {
    if (this.waiting.size === 0 && this.#fits(claim.bytes)) {
      this.#letIn(claim);
      return true;
    }
    this.waiting.add(claim);
    if (this.#look === null) this.#beginToLook();
    return false;
  }

  giveBack(claim: PayloadClaim): void {
    if (this.#holders.delete(claim)) this.usedBytes -= claim.bytes;
    else this.waiting.delete(claim);
    if (this.waiting.size > 0) this.#next();
    if (this.waiting.size > 0 || this.#look === null) return;
    this.#look.cancel();
    this.#look = null;
  }

  #fits(bytes: number): boolean {
    return this.#holders.size === 0 || this.usedBytes + bytes <= this.#budgetBytes;
  }

  #letIn(claim: PayloadClaim): void {
    this.#holders.add(claim);
    this.usedBytes += claim.bytes;
    claim.seenBytes = claim.claimant.arrivedBytes;
    claim.idleLooks = 0;
    claim.looks = 0;
  }

  /** Lets in who is in front, while there is room. */
  #next(): void {
    for (const claim of this.waiting) {
      if (!this.#fits(claim.bytes)) return;
      this.waiting.delete(claim);
      this.#letIn(claim);
      // Not from within another connection's reading; by then it may be gone.
      queueMicrotask(() => {
        if (this.#holders.has(claim)) claim.claimant.admitted();
      });
    }
  }

  /** What was idle while nobody waited has done no harm: silence counts from now on. */
  #beginToLook(): void {
    for (const claim of this.#holders) {
      claim.seenBytes = claim.claimant.arrivedBytes;
      claim.idleLooks = 0;
    }
    this.#lookSoon();
  }

  #lookSoon(): void {
    this.#look ??= this.#clock.after(this.#limits.lookMs, () => {
      this.#look = null;
      this.#lookNow();
      if (this.waiting.size > 0) this.#lookSoon();
    });
  }

  #lookNow(): void {
    const { lookMs, idleLooks, looks } = this.#limits;
    for (const claim of [...this.#holders]) {
      const { arrivedBytes, isHeldBack } = claim.claimant;
      if (isHeldBack) continue;
      claim.idleLooks = arrivedBytes === claim.seenBytes ? claim.idleLooks + 1 : 0;
      claim.seenBytes = arrivedBytes;
      claim.looks += 1;
      const how = `of a payload of ${claim.bytes} bytes ${arrivedBytes} have come,`;
      if (claim.idleLooks >= idleLooks) {
        claim.claimant.overdue(`${how} none for ${(idleLooks * lookMs) / 1000} s, and others wait`);
      } else if (claim.looks >= looks) {
        claim.claimant.overdue(`${how} while others have waited for ${(looks * lookMs) / 1000} s`);
      }
    }
  }
}
