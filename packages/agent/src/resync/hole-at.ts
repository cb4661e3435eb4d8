/** How far a device says, by `base:allocation`, that it reads as zeroes: asked, not read. */
import { type BlockDevice, DeviceError } from '@rephub/nbd';
import { allocationRuns, tellsAllocation } from '../guest/allocation.js';

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
  if (!tellsAllocation(device)) return { hole: 0, data: length };
  let hole = 0;
  let data = 0;
  try {
    while (hole < length && data === 0) {
      for (const { lengthBytes, isZero } of await allocationRuns(device, offset + hole, length - hole)) {
        if (!isZero) data += lengthBytes;
        else if (data === 0) hole += lengthBytes;
        else break;
      }
    }
  } catch (fault) {
    if (!(fault instanceof DeviceError)) throw fault;
    return { hole: 0, data: length };
  }
  return hole > 0 ? { hole: Math.min(hole, length), data: 0 } : { hole: 0, data: Math.min(data, length) };
}
