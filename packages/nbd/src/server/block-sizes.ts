/** A device's limits as the specification lets a server advertise them ("Size constraints"). Pure. */
import { DEFAULT_LIMITS, type Limits } from '../block-device.js';

/** No preferred size may be below this. */
const LEAST_PREFERRED_BYTES = 512;
const MAX_UINT32 = 0xffff_ffff;

/** Minimum and maximum are the device's own; the preferred size is brought between them, and to a power of two. */
export function blockSizes(limits: Limits): Limits {
  const { minimumBytes } = limits;
  const least = Math.max(minimumBytes, LEAST_PREFERRED_BYTES);
  const maximumBytes = Math.min(Math.max(limits.maximumBytes, least), MAX_UINT32);
  const most = 2 ** Math.floor(Math.log2(maximumBytes));
  const preferredBytes = Math.min(Math.max(2 ** Math.ceil(Math.log2(limits.preferredBytes)), least), most);
  return { minimumBytes, preferredBytes, maximumBytes };
}

/** True when a client that was told nothing assumes no more than the device can. */
export function isUsualBlockSizes(limits: Limits): boolean {
  return limits.minimumBytes === 1 && limits.maximumBytes >= DEFAULT_LIMITS.maximumBytes;
}
