/** What a device says of its allocation (`base:allocation`): which bytes read as zeroes. It is asked; nothing is read. */
import { ALLOCATION_CONTEXT, AllocationFlag, type BlockDevice, blockStatus } from '@rephub/nbd';

/** Asked about at most this much at once: NBD's plain requests have 32-bit lengths. */
const ASKED_BYTES = 1024 * 1024 * 1024;

export interface AllocationRun {
  readonly lengthBytes: number;
  readonly isZero: boolean;
}

/** False: nobody may ask it, and nothing is known of it. */
export function tellsAllocation(device: BlockDevice): boolean {
  return device.abilities.contexts.includes(ALLOCATION_CONTEXT);
}

/**
 * The answer to one question: runs that follow one another from `offset` on. They may stop short of the range's end, and the
 * last one may reach beyond it. Throws a DeviceError when the device cannot tell.
 */
export async function allocationRuns(device: BlockDevice, offset: number, length: number): Promise<AllocationRun[]> {
  const { runs } = await blockStatus(device, offset, Math.min(length, ASKED_BYTES), ALLOCATION_CONTEXT);
  const found: AllocationRun[] = [];
  for (let pair = 0; pair + 1 < runs.length; pair += 2) {
    found.push({ lengthBytes: runs[pair] ?? 0, isZero: ((runs[pair + 1] ?? 0) & AllocationFlag.Zero) !== 0 });
  }
  return found;
}
