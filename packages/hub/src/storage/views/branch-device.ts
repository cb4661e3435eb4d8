/** One volume of a branch as a read-write device. */
import { type Abilities, type BlockDevice, type BlockRequest, DEFAULT_LIMITS } from '@rephub/nbd';
import type { PinnedVolume } from '../layers/timeline.js';
import type { Volume } from '../layers/layer.js';

const READ_WRITE: Abilities = {
  readOnly: false,
  flush: true,
  fua: true,
  trim: true,
  writeZeroes: true,
  fastZero: true,
  cache: true,
  multiConn: true,
  contexts: ['base:allocation'],
};

export interface BranchRequests {
  take(request: BlockRequest, volume: Volume): void;
  idle(): Promise<void>;
}

export class BranchDevice implements BlockDevice {
  readonly #branch: BranchRequests;
  readonly #pinned: PinnedVolume;
  readonly abilities = READ_WRITE;
  readonly limits = DEFAULT_LIMITS;

  constructor(branch: BranchRequests, pinned: PinnedVolume) {
    this.#branch = branch;
    this.#pinned = pinned;
  }

  get sizeBytes(): number {
    return this.#pinned.sizeBytes;
  }

  submit(request: BlockRequest): void {
    this.#branch.take(request, this.#pinned.volume);
  }

  close(): Promise<void> {
    return this.#branch.idle();
  }
}
