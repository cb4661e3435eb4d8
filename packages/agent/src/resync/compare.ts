/**
 * Comparing what was read with what the hub holds, block by block; and whether asking is worth it. Pure.
 *
 * Always holds: a block counts as the same only when both are zeroes, or their digests are equal; whatever the answer does
 * not speak of counts as different.
 */
import { allZero, BlockKind, digestOf } from '@rephub/protocol';
import { type Answer } from './hash-client.js';
import { sliceRange } from './zero-runs.js';

export const BLOCK_BYTES = 64 * 1024;

/** Byte positions within what was read. */
export interface BlockRun {
  readonly from: number;
  to: number;
  readonly verdict: 'same' | 'differs' | 'unknown';
}

/** Runs that cover all of `slices`, which begin at the region's offset. Unknown: the hub cannot read it, or the answer stops short. */
export function compareBlocks(slices: readonly Buffer[], { region, key }: Answer): BlockRun[] {
  const runs: BlockRun[] = [];
  let length = 0;
  for (const slice of slices) length += slice.length;
  for (let from = 0; from < length;) {
    const to = Math.min(from + region.blockBytes, length);
    const verdict = from < region.coveredBytes ? verdictOf(slices, from, to, region, key) : 'unknown';
    const last = runs.at(-1);
    if (last?.verdict === verdict) last.to = to;
    else runs.push({ from, to, verdict });
    from = to;
  }
  return runs;
}

function verdictOf(
  slices: readonly Buffer[],
  from: number,
  to: number,
  region: Answer['region'],
  key: Buffer,
): BlockRun['verdict'] {
  const block = from / region.blockBytes;
  const kind = region.kind(block);
  if (kind === BlockKind.Unreadable) return 'unknown';
  const parts = sliceRange(slices, from, to);
  if (kind === BlockKind.Zero) return allZero(parts) ? 'same' : 'differs';
  return region.hasDigest(block, digestOf(key, parts)) ? 'same' : 'differs';
}

/** So much is looked at before it is judged. */
const JUDGED_BYTES = 32 * 1024 * 1024;
/** Of regions that are likely to differ, one in so many is asked for all the same. */
const PROBE_EVERY = 16;

/** Is it worth asking? Where nearly all differs it is not: then only now and then, to see whether that has changed. */
export class CompareGauge {
  #same = 0;
  #differs = 0;
  #skipped = 0;

  /** Asked once for each region. */
  worthwhile(): boolean {
    const seen = this.#same + this.#differs;
    if (seen < JUDGED_BYTES / 2 || this.#same * 10 >= seen) return true;
    this.#skipped++;
    return this.#skipped % PROBE_EVERY === 0;
  }

  /** What a comparison has found. */
  found(sameBytes: number, differingBytes: number): void {
    // What a probe finds counts for those that were not asked.
    const weight = this.#skipped > 0 ? PROBE_EVERY : 1;
    this.#same += sameBytes * weight;
    this.#differs += differingBytes * weight;
    if (this.#same + this.#differs <= JUDGED_BYTES) return;
    this.#same /= 2;
    this.#differs /= 2;
    if (this.#same >= this.#differs) this.#skipped = 0;
  }
}
