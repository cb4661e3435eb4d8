/**
 * Operations that are not under way: those that wait for a connection, in the order of their submission, each with a
 * deadline; and those that failed and are repeated after a delay. One timer for all.
 */
import { type Clock, type Timer } from '@rephub/platform';
import { type UpstreamOp } from './upstream-op.js';

export interface WaitingRoomParts {
  readonly clock: Clock;
  /** Its deadline has passed. */
  readonly expired: (op: UpstreamOp) => void;
  /** It is to be repeated now. */
  readonly due: (ops: readonly UpstreamOp[]) => void;
  /** False while what waits is being seen to: nothing expires then. */
  readonly mayExpire: () => boolean;
}

/** How soon is looked again when nothing may expire just now. */
const LATER_MS = 100;

export class WaitingRoom {
  readonly #parts: WaitingRoomParts;
  #waiting: UpstreamOp[] = [];
  #delayed: UpstreamOp[] = [];
  #timer: Timer | null = null;
  #timerAtMs = Infinity;

  constructor(parts: WaitingRoomParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#waiting.length + this.#delayed.length;
  }

  /** Waits for a connection, until `deadlineMs`. */
  wait(op: UpstreamOp): void {
    op.hasWaited = true;
    this.#waiting.push(op);
    this.#arm(op.deadlineMs);
  }

  /** Is repeated at `dueMs`. */
  delay(op: UpstreamOp): void {
    op.hasWaited = true;
    this.#delayed.push(op);
    this.#arm(op.dueMs);
  }

  /** The waiting one whose write is this entry of the replay log. */
  byEntry(entry: number): UpstreamOp | undefined {
    return this.#waiting.find((op) => op.entry === entry);
  }

  remove(op: UpstreamOp): void {
    const at = this.#waiting.indexOf(op);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** All that wait for a connection, oldest first; they wait no longer. */
  takeWaiting(): UpstreamOp[] {
    const taken = this.#waiting;
    this.#waiting = [];
    return taken.sort((one, other) => one.order - other.order);
  }

  takeAll(): UpstreamOp[] {
    const taken = [...this.takeWaiting(), ...this.#delayed];
    this.#delayed = [];
    this.#timer?.cancel();
    this.#timerAtMs = Infinity;
    return taken;
  }

  /** Those whose deadline has passed go. */
  expire(): void {
    if (!this.#parts.mayExpire()) return;
    const nowMs = this.#parts.clock.monotonicMs();
    if (!this.#waiting.some(({ deadlineMs }) => deadlineMs <= nowMs)) return;
    const expired = this.#waiting.filter(({ deadlineMs }) => deadlineMs <= nowMs);
    this.#waiting = this.#waiting.filter(({ deadlineMs }) => deadlineMs > nowMs);
    for (const op of expired) this.#parts.expired(op);
  }

  #arm(atMs: number): void {
    if (atMs >= this.#timerAtMs || atMs === Infinity) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    const delayMs = Math.max(0, atMs - this.#parts.clock.monotonicMs());
    this.#timer = this.#parts.clock.after(delayMs, () => {
      this.#timerAtMs = Infinity;
      this.#ring();
    });
  }

  #ring(): void {
    const nowMs = this.#parts.clock.monotonicMs();
    const due = this.#delayed.filter(({ dueMs }) => dueMs <= nowMs);
    if (due.length > 0) {
      this.#delayed = this.#delayed.filter(({ dueMs }) => dueMs > nowMs);
      this.#parts.due(due.sort((one, other) => one.order - other.order));
    }
    // A request with no patience at all still waits for the first attempt: `expire` is called when that has failed.
    this.expire();
    let nextMs = Infinity;
    for (const { dueMs } of this.#delayed) nextMs = Math.min(nextMs, dueMs);
    for (const { deadlineMs } of this.#waiting) nextMs = Math.min(nextMs, Math.max(deadlineMs, nowMs + LATER_MS));
    this.#arm(nextMs);
  }
}
