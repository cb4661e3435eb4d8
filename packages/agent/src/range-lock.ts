/**
 * The range lock of one volume: guest writes and copies that overlap wait for one another, in the order
 * in which they came, so that upstream and hub agree on the winner (promise ORD).
 *
 * Always holds: no two holders overlap; a waiter waits only for holders and earlier waiters that overlap
 * it. Few requests are in flight at once, so plain arrays beat a tree.
 */
export interface RangeHolder {
  /** The range, in bytes: first byte and the one after the last. Not changed while held or waiting. */
  rangeStart: number;
  rangeEnd: number;
  /** Where it sits among the holders; the lock's own. */
  holderIndex: number;
  /** The range is held now; called once for an `acquire` that returned false. */
  rangeLocked(): void;
}

export class RangeLock {
  readonly #held: RangeHolder[] = [];
  readonly #waiting: RangeHolder[] = [];

  get heldCount(): number {
    return this.#held.length;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** True: held at once. False: `rangeLocked` will be called when it is. */
  acquire(holder: RangeHolder): boolean {
    if (
      overlapsAny(this.#held, this.#held.length, holder) ||
      overlapsAny(this.#waiting, this.#waiting.length, holder)
    ) {
      this.#waiting.push(holder);
      return false;
    }
    this.#hold(holder);
    return true;
  }

  release(holder: RangeHolder): void {
    const last = this.#held.pop();
    if (last !== undefined && last !== holder) {
      this.#held[holder.holderIndex] = last;
      last.holderIndex = holder.holderIndex;
    }
    holder.holderIndex = -1;
    if (this.#waiting.length > 0) this.#admit();
  }

  #hold(holder: RangeHolder): void {
    holder.holderIndex = this.#held.length;
    this.#held.push(holder);
  }

  /** Lets in, in their order, all waiters that nothing before them hinders. */
  #admit(): void {
    const admitted: RangeHolder[] = [];
    let kept = 0;
    for (let at = 0; at < this.#waiting.length; at++) {
      const waiter = this.#waiting[at];
      if (waiter === undefined) continue;
      if (overlapsAny(this.#held, this.#held.length, waiter) || overlapsAny(this.#waiting, kept, waiter)) {
        this.#waiting[kept++] = waiter;
      } else {
        this.#hold(waiter);
        admitted.push(waiter);
      }
    }
    this.#waiting.length = kept;
    // Told only now: a holder may release from within the call.
    for (const waiter of admitted) waiter.rangeLocked();
  }
}

/** Runs `work` while it holds the range; for what is not the guest's hot path. */
export async function withRange<T>(
  lock: RangeLock,
  offset: number,
  length: number,
  work: () => Promise<T>,
): Promise<T> {
  let locked: () => void = () => undefined;
  const whenLocked = new Promise<void>((resolve) => {
    locked = resolve;
  });
  const holder: RangeHolder = {
    rangeStart: offset,
    rangeEnd: offset + length,
    holderIndex: -1,
    rangeLocked: () => {
      locked();
    },
  };
  if (!lock.acquire(holder)) await whenLocked;
  try {
    return await work();
  } finally {
    lock.release(holder);
  }
}

function overlapsAny(among: readonly RangeHolder[], count: number, holder: RangeHolder): boolean {
  for (let at = 0; at < count; at++) {
    const other = among[at];
    if (other !== undefined && other.rangeStart < holder.rangeEnd && holder.rangeStart < other.rangeEnd) return true;
  }
  return false;
}
