/**
 * `--on-disconnect freeze`: while the hub is away, or mirroring has stopped, guest writes wait before they go
 * upstream, in their order. Reads go on, and so do writes while the operator has paused mirroring.
 */
import { type WriteOperation } from '../operations.js';

export class FreezeGate {
  readonly #isFrozen: () => boolean;
  #waiting: WriteOperation[] = [];
  #givenUp = false;

  constructor(isFrozen: () => boolean) {
    this.#isFrozen = isFrozen;
  }

  /** Whoever comes now waits, or is given up. */
  get isShut(): boolean {
    return this.#givenUp || this.#isFrozen();
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** True: the operation waits; it goes on by `rangeLocked`, or is given up. */
  hold(operation: WriteOperation): boolean {
    if (this.#givenUp) {
      operation.giveUp();
      return true;
    }
    if (!this.#isFrozen()) return false;
    this.#waiting.push(operation);
    return true;
  }

  /** What freezes may have changed. */
  changed(): void {
    if (this.#waiting.length === 0 || this.#isFrozen()) return;
    const thawed = this.#waiting;
    this.#waiting = [];
    for (const operation of thawed) operation.rangeLocked();
  }

  /** The orderly end: what waits, and what comes, is refused. */
  giveUp(): void {
    this.#givenUp = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const operation of waiting) operation.giveUp();
  }
}
