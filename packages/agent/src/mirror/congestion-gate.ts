/**
 * `--on-congestion block`: while the window has no room, guest writes wait before they go upstream, in
 * their order, instead of being only marked. Nothing waits while the link is down: then the window may fill and is pulled ahead of.
 */
import { FRAME_OVERHEAD_BYTES } from '@rephub/protocol';
import { type Mirror } from './mirror.js';
import { type WriteOperation } from '../operations.js';

export class CongestionGate {
  readonly #mirror: Pick<Mirror, 'linked' | 'window'>;
  #waiting: WriteOperation[] = [];
  /** Frames of writes let through and not yet recorded. */
  #admittedBytes = 0;

  constructor(mirror: Pick<Mirror, 'linked' | 'window'>) {
    this.#mirror = mirror;
  }

  /** True: the operation waits, and goes on by `operation.proceed` when there is room. */
  hold(operation: WriteOperation): boolean {
    if (this.#waiting.length === 0 && this.#admit(operation)) return false;
    this.#waiting.push(operation);
    return true;
  }

  /** The operation let through has its record, or has failed. */
  done(operation: WriteOperation): void {
    this.withdrawn(operation);
    // Without a record its room is free again, and no acknowledgement may ever come to say so.
    if (this.#waiting.length > 0) this.roomMade();
  }

  /** The operation let through waits elsewhere now, and will come again. */
  withdrawn(operation: WriteOperation): void {
    this.#admittedBytes -= operation.admittedBytes;
    operation.admittedBytes = 0;
  }

  /** Acknowledgements have made room, or the link has gone. */
  roomMade(): void {
    let count = 0;
    while (count < this.#waiting.length) {
      const operation = this.#waiting[count];
      if (operation === undefined || !this.#admit(operation)) break;
      count++;
    }
    if (count === 0) return;
    const admitted = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    for (const operation of admitted) operation.proceed();
  }

  #admit(operation: WriteOperation): boolean {
    const bytes = operation.payloadBytes + FRAME_OVERHEAD_BYTES;
    const { window, linked } = this.#mirror;
    // An empty window always takes one write, however large.
    const empty = window.count === 0 && this.#admittedBytes === 0;
    if (linked && !empty && window.bytes + this.#admittedBytes + bytes > window.limitBytes) return false;
    operation.admittedBytes = bytes;
    this.#admittedBytes += bytes;
    return true;
  }
}
