/**
 * A guest's trim on its way upstream (promise TRIM): as a zeroing where upstream does that fast, else as a trim, after
 * which upstream is asked what it reads there.
 *
 * Always holds: a discard is recorded only where upstream reads as zeroes.
 * Must not know: marks, numbers, the guest's answer; the volume does those.
 */
import {
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  flushDevice,
  NbdError,
  trimRange,
} from '@rephub/nbd';
import { allocationRuns, tellsAllocation } from './allocation.js';
import { type WriteOperation } from '../operations.js';

export interface TrimSteps {
  /** Upstream reads as zeroes there. */
  discarded(operation: WriteOperation): void;
  /** Trimmed, and nobody knows what upstream holds there. */
  uncertain(operation: WriteOperation): void;
  failed(operation: WriteOperation, fault: unknown): void;
}

export class Trims {
  readonly #upstream: BlockDevice;
  readonly #steps: TrimSteps;

  constructor(upstream: BlockDevice, steps: TrimSteps) {
    this.#upstream = upstream;
    this.#steps = steps;
  }

  /** Sends it; where that is a fast zeroing, its answer comes to the operation itself. */
  begin(operation: WriteOperation, outer: BlockRequest): void {
    if (!this.#upstream.abilities.fastZero) {
      void this.#slowly(operation);
      return;
    }
    operation.trimAsZero = true;
    const inner = operation.inner;
    inner.command = Command.WriteZeroes;
    inner.flags = CommandFlag.FastZero | (outer.flags & CommandFlag.Fua);
    inner.offset = outer.offset;
    inner.length = outer.length;
    this.#upstream.submit(inner);
  }

  /** The fast zeroing was refused. True: it goes on as a trim; false: the disk has failed. */
  refused(operation: WriteOperation): boolean {
    const { error } = operation.inner;
    if (error === NbdError.Eio || error === NbdError.Eshutdown) return false;
    operation.trimAsZero = false;
    void this.#slowly(operation);
    return true;
  }

  async #slowly(operation: WriteOperation): Promise<void> {
    const offset = operation.rangeStart;
    const length = operation.rangeEnd - offset;
    try {
      await trimRange(this.#upstream, offset, length);
      const isFua = operation.outer !== null && (operation.outer.flags & CommandFlag.Fua) !== 0;
      if (isFua) await flushDevice(this.#upstream);
    } catch (fault) {
      this.#steps.failed(operation, fault);
      return;
    }
    // It is trimmed, whatever can be said of it.
    const zeroes = await this.#readsAsZero(offset, length).catch(() => false);
    if (zeroes) this.#steps.discarded(operation);
    else this.#steps.uncertain(operation);
  }

  /** True when upstream says that all of the range reads as zeroes. */
  async #readsAsZero(offset: number, length: number): Promise<boolean> {
    if (!tellsAllocation(this.#upstream)) return false;
    const end = offset + length;
    let at = offset;
    while (at < end) {
      for (const { lengthBytes, isZero } of await allocationRuns(this.#upstream, at, end - at)) {
        if (at < end && !isZero) return false;
        at += lengthBytes;
      }
    }
    return true;
  }
}
