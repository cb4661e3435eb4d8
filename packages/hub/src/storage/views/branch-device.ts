/** One volume of a branch as a read-write device. */
import { ALL_ABILITIES, type BlockDevice, type BlockRequest, DEFAULT_LIMITS } from '@rephub/nbd';
import type { PinnedVolume } from '../layers/timeline.js';
import type { Volume } from '../layers/layer.js';

export interface BranchRequests {
  take(request: BlockRequest, volume: Volume): void;
  idle(): Promise<void>;
}

export class BranchDevice implements BlockDevice {
  readonly #branch: BranchRequests;
  readonly #pinned: PinnedVolume;
  readonly abilities = ALL_ABILITIES;
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
