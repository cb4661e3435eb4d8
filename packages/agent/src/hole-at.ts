/** How far a device says, by `base:allocation`, that it reads as zeroes: asked, not read. */
import { AllocationFlag, type BlockDevice, blockStatus, DeviceError } from '@rephub/nbd';

const ALLOCATION = 'base:allocation';
/** Block status is asked for at most this much at once: NBD's plain requests have 32-bit lengths. */
const STATUS_BYTES = 1024 * 1024 * 1024;

/** How many of `length` bytes from `offset` on are said to read as zeroes; 0 when it cannot tell. */
export async function holeAt(device: BlockDevice, offset: number, length: number): Promise<number> {
  return (await extentAt(device, offset, length)).hole;
}

/**
 * The same for one who goes through a whole device: where data was told of up to some place, it is not asked again before that.
 * So a hole that is new may be missed, and a hole that it tells of may be none any more.
 */
export class HoleFinder {
  readonly #device: BlockDevice;
  #dataFrom = 0;
  #dataTo = 0;

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  async holeAt(offset: number, length: number): Promise<number> {
    if (offset >= this.#dataFrom && offset < this.#dataTo) return 0;
    const { hole, data } = await extentAt(this.#device, offset, length);
    if (hole === 0) {
      this.#dataFrom = offset;
      this.#dataTo = offset + data;
    }
    return hole;
  }
}

/** The first bytes are a hole (what comes then is not said) or data, so many at least; one of the two is 0. Both, when nothing was asked. */
interface Extent {
  readonly hole: number;
  readonly data: number;
}

async function extentAt(device: BlockDevice, offset: number, length: number): Promise<Extent> {
  if (!device.abilities.contexts.includes(ALLOCATION)) return { hole: 0, data: length };
  let hole = 0;
  let data = 0;
  try {
    while (hole < length && data === 0) {
      const { runs } = await blockStatus(device, offset + hole, Math.min(length - hole, STATUS_BYTES), ALLOCATION);
      for (let pair = 0; pair + 1 < runs.length; pair += 2) {
        const bytes = runs[pair] ?? 0;
        if (((runs[pair + 1] ?? 0) & AllocationFlag.Zero) === 0) data += bytes;
        else if (data === 0) hole += bytes;
        else break;
      }
    }
  } catch (fault) {
    if (!(fault instanceof DeviceError)) throw fault;
    return { hole: 0, data: length };
  }
  return hole > 0 ? { hole: Math.min(hole, length), data: 0 } : { hole: 0, data: Math.min(data, length) };
}
