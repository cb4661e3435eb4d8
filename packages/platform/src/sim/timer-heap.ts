/**
 * The timers of virtual time, as a binary heap by due time and then by making.
 *
 * Always holds: a cancelled timer is never taken; it leaves the heap when it comes to the top, or when more
 * than half of the heap are such.
 */
import type { Timer } from '../clock.js';

class PendingTimer implements Timer {
  readonly dueMs: number;
  readonly order: number;
  /** Null once it has run or was cancelled. */
  run: (() => void) | null;
  readonly #heap: TimerHeap;

  constructor(heap: TimerHeap, dueMs: number, order: number, run: () => void) {
    this.#heap = heap;
    this.dueMs = dueMs;
    this.order = order;
    this.run = run;
  }

  cancel(): void {
    if (this.run === null) return;
    this.run = null;
    this.#heap.cancelled();
  }
}

export class TimerHeap {
  #heap: PendingTimer[] = [];
  #made = 0;
  #cancelled = 0;

  /** Timers that wait. */
  get count(): number {
    return this.#heap.length - this.#cancelled;
  }

  /** When the first one falls due; Infinity when there is none. */
  get nextDueMs(): number {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined) return Infinity;
      if (first.run !== null) return first.dueMs;
      this.#removeFirst();
      this.#cancelled -= 1;
    }
  }

  add(dueMs: number, run: () => void): Timer {
    this.#made += 1;
    const timer = new PendingTimer(this, dueMs, this.#made, run);
    this.#heap.push(timer);
    this.#rise(this.#heap.length - 1, timer);
    return timer;
  }

  /** What the first timer is to run; it is in the heap no more. Throws when there is none. */
  takeFirst(): () => void {
    const first = this.nextDueMs === Infinity ? undefined : this.#heap[0];
    const run = first?.run ?? null;
    if (first === undefined || run === null) throw new Error('there is no timer');
    first.run = null;
    this.#removeFirst();
    return run;
  }

  /** For timers only. */
  cancelled(): void {
    this.#cancelled += 1;
    if (this.#cancelled < 64 || this.#cancelled * 2 < this.#heap.length) return;
    this.#heap = this.#heap.filter(({ run }) => run !== null).sort((a, b) => (isBefore(a, b) ? -1 : 1));
    this.#cancelled = 0;
  }

  #removeFirst(): void {
    const last = this.#heap.pop();
    if (last !== undefined && this.#heap.length > 0) this.#sink(last);
  }

  #rise(from: number, timer: PendingTimer): void {
    let index = from;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = this.#heap[above];
      if (parent === undefined || !isBefore(timer, parent)) break;
      this.#heap[index] = parent;
      index = above;
    }
    this.#heap[index] = timer;
  }

  #sink(timer: PendingTimer): void {
    const { length } = this.#heap;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      let child = this.#heap[below];
      if (child === undefined) break;
      const right = below + 1 < length ? this.#heap[below + 1] : undefined;
      if (right !== undefined && isBefore(right, child)) {
        child = right;
        below += 1;
      }
      if (!isBefore(child, timer)) break;
      this.#heap[index] = child;
      index = below;
    }
    this.#heap[index] = timer;
  }
}

function isBefore(a: PendingTimer, b: PendingTimer): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}
