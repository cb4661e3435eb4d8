/**
 * Brings extents into hot.log: collects the activations that wait, gives them slots, writes one transaction
 * after the other. Owns the queue of writes that wait for a mark and the order of commits.
 *
 * Always holds:
 *  - a waiting write is let go only after the transaction that makes its whole range hot is durable;
 *  - an extent is taken out of hot.log only when `Marks.canCool` says so at that moment;
 *  - writes that wait are served first come, first served: none starves;
 *  - after a failed transaction nothing more is written.
 * Must not know: pages, network, why a write comes.
 */
import { asError } from '@rephub/platform';
import { extentAt, extentKey, NO_EXTENT } from './geometry.js';
import type { HotLog, LogFacts } from './hot-log.js';
import type { Marks } from './marks.js';
import { MAX_CHANGES, type PageRun } from './transaction.js';

export interface LogLoopHooks {
  /** What every transaction carries, as of now. */
  facts(): LogFacts;
  /** Few extents can be cooled: `coolable` of all slots are free or could be freed at once. `starving`: a write waits for one. */
  short(coolable: number, starving: boolean): void;
  failed(error: Error): void;
}

interface Waiting {
  readonly volume: number;
  readonly first: number;
  readonly last: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class LogLoop {
  readonly #log: HotLog;
  readonly #marks: Marks;
  readonly #hooks: LogLoopHooks;
  #queue: Waiting[] = [];
  #commits: Waiter[] = [];
  #inTransaction: Waiter[] = [];
  #announced: readonly PageRun[] = [];
  /** Slots that were cooled and that hot.log still has. */
  #toErase: number[] = [];
  #victims: number[] = [];
  #admitted: Waiting[] = [];
  #arriving: number[] = [];
  #changes: number[] = [];
  #running: Promise<void> | null = null;
  #stopped: Error | null = null;

  constructor(log: HotLog, marks: Marks, hooks: LogLoopHooks) {
    this.#log = log;
    this.#marks = marks;
    this.#hooks = hooks;
  }

  /** Writes that wait for their extents. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Resolves when the range is hot, durably, and counted as in flight. Rejects when the log has failed. */
  activate(volume: number, offset: number, length: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const first = extentAt(offset);
      const last = extentAt(offset + length - 1);
      this.#queue.push({ volume, first, last, resolve, reject });
      this.kick();
    });
  }

  /** From the next transaction on these pages count as about to be written. */
  announce(pages: readonly PageRun[]): void {
    this.#announced = pages;
  }

  /** Resolves when a transaction composed after this call is durable. */
  commit(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#commits.push({ resolve, reject });
      this.kick();
    });
  }

  /** Takes every extent that can be cooled out of hot.log; resolves when that is durable. */
  async eraseCoolable(): Promise<void> {
    const { hot } = this.#marks;
    for (let slot = hot.oldest(); slot >= 0;) {
      const next = hot.newerThan(slot);
      if (this.#marks.canCool(slot)) {
        hot.remove(slot);
        this.#toErase.push(slot);
      }
      slot = next;
    }
    while (this.#toErase.length > 0) await this.commit();
  }

  /** Something may have become possible: an extent is idle, proven or ready. */
  kick(): void {
    if (this.#stopped !== null) this.stop(this.#stopped);
    else this.#running ??= this.#run();
  }

  /** Nothing is written any more; what waits, and what comes, is turned away with the error. */
  stop(error: Error): void {
    this.#stopped = error;
    this.#marks.onIdle = null;
    for (const waiter of [...this.#queue.splice(0), ...this.#commits.splice(0)]) waiter.reject(error);
  }

  /** Lets all that waits pass without a mark: the tracking has been declared untrusted, durably. */
  release(): void {
    for (const waiter of this.#queue.splice(0)) waiter.resolve();
  }

  /** Resolves when no transaction is under way. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      // What else comes in this turn goes into the same transaction.
      await Promise.resolve();
      while (this.#stopped === null && this.#compose()) {
        this.#inTransaction = this.#commits.splice(0);
        await this.#log.append(this.#changes, this.#announced, this.#hooks.facts());
        for (const slot of this.#arriving) this.#marks.hot.arrived(slot);
        for (const waiting of this.#admitted) waiting.resolve();
        for (const waiter of this.#inTransaction) waiter.resolve();
        // Whoever was let go may ask for more at once: it can still go with the next transaction.
        await Promise.resolve();
      }
    } catch (thrown) {
      this.#fail(asError(thrown));
    } finally {
      this.#running = null;
    }
  }

  #fail(error: Error): void {
    for (const waiter of [...this.#admitted, ...this.#inTransaction]) waiter.reject(error);
    this.stop(error);
    this.#hooks.failed(error);
  }

  /** Decides on the next transaction; false when there is nothing to write. */
  #compose(): boolean {
    const { hot } = this.#marks;
    this.#admitted = [];
    this.#arriving = [];
    this.#changes = [];
    this.#victims = [];
    this.#marks.onIdle = null;
    let isStarving = false;
    let admitted = 0;
    // The list of what can be cooled is made once per transaction.
    const isShort = hot.freeCount < hot.slots >> 2;
    if (isShort && this.#queue.length > 0) this.#collectVictims();
    for (const waiting of this.#queue) {
      const outcome = this.#admit(waiting);
      if (outcome !== 'admitted') {
        isStarving = outcome === 'starving';
        break;
      }
      admitted += 1;
      this.#admitted.push(waiting);
    }
    if (admitted > 0) this.#queue.splice(0, admitted);
    this.#eraseSome();
    if (isStarving) this.#marks.onIdle = () => this.kick();
    if (isShort && (isStarving || admitted > 0)) this.#hooks.short(hot.freeCount + this.#victims.length, isStarving);
    return admitted > 0 || this.#changes.length > 0 || this.#commits.length > 0;
  }

  #admit(waiting: Waiting): 'admitted' | 'starving' | 'full' {
    const { hot } = this.#marks;
    const { volume, first, last } = waiting;
    let missing = 0;
    // What is there already is held first, so that it is not cooled to make room for the rest.
    for (let extent = first; extent <= last; extent += 1) {
      const slot = hot.find(extentKey(volume, extent));
      if (slot >= 0) hot.raise(slot);
      else missing += 1;
    }
    const isFull = this.#changes.length / 2 + missing > MAX_CHANGES;
    if (isFull || !this.#makeRoom(missing)) {
      for (let extent = first; extent <= last; extent += 1) {
        const slot = hot.find(extentKey(volume, extent));
        if (slot >= 0) hot.lower(slot);
      }
      return isFull ? 'full' : 'starving';
    }
    for (let extent = first; missing > 0 && extent <= last; extent += 1) {
      const key = extentKey(volume, extent);
      if (hot.find(key) >= 0) continue;
      missing -= 1;
      const slot = hot.assign(key);
      this.#arriving.push(slot);
      this.#changes.push(slot, key);
    }
    return 'admitted';
  }

  /** Frees slots until `needed` are free, oldest first. */
  #makeRoom(needed: number): boolean {
    const { hot } = this.#marks;
    while (hot.freeCount < needed) {
      const slot = this.#victims.pop();
      if (slot === undefined) return false;
      // It may have been taken up again by a write admitted just now.
      if (!this.#marks.canCool(slot)) continue;
      hot.remove(slot);
      this.#toErase.push(slot);
    }
    return true;
  }

  #collectVictims(): void {
    const { hot } = this.#marks;
    for (let slot = hot.oldest(); slot >= 0; slot = hot.newerThan(slot)) {
      if (this.#marks.canCool(slot)) this.#victims.push(slot);
    }
    this.#victims.reverse();
  }

  /** Cooled slots that nothing new sits in leave hot.log as far as there is room in the transaction. */
  #eraseSome(): void {
    while (this.#changes.length < MAX_CHANGES * 2) {
      const slot = this.#toErase.pop();
      if (slot === undefined) return;
      const isErased = this.#log.keyOf(slot) === NO_EXTENT || this.#marks.hot.keyOf(slot) !== NO_EXTENT;
      if (!isErased) this.#changes.push(slot, NO_EXTENT);
    }
  }
}
