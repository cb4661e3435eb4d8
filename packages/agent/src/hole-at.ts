/** How far a device says, by `base:allocation`, that it reads as zeroes: asked, not read. */
import { AllocationFlag, type BlockDevice, blockStatus, DeviceError } from '@rephub/nbd';

const ALLOCATION = 'base:allocation';
/** Block status is asked for at most this much at once: NBD's plain requests have 32-bit lengths. */
const STATUS_BYTES = 1024 * 1024 * 1024;

/** How many of `length` bytes from `offset` on are said to read as zeroes; 0 when it cannot tell. */
export async function holeAt(device: BlockDevice, offset: number, length: number): Promise<number> {
  if (!device.abilities.contexts.includes(ALLOCATION)) return 0;
  let hole = 0;
  try {
    while (hole < length) {
      const { runs } = await blockStatus(device, offset + hole, Math.min(length - hole, STATUS_BYTES), ALLOCATION);
      for (let pair = 0; pair + 1 < runs.length; pair += 2) {
        if (((runs[pair + 1] ?? 0) & AllocationFlag.Zero) === 0) return Math.min(hole, length);
        hole += runs[pair] ?? 0;
      }
    }
  } catch (fault) {
    if (!(fault instanceof DeviceError)) throw fault;
    return 0;
  }
  return Math.min(hole, length);
}
