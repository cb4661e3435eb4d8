/**
 * Answers the hub's remote read: reads the range from upstream under its lock and numbers it as a copied record. As with any
 * copy, what was read may be what a failed flush has left there, until it is played again.
 */
import { DeviceError, readSlices } from '@rephub/nbd';
import { FrameType, MAX_PAYLOAD_BYTES, type ReadRegion } from '@rephub/protocol';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type Mirror } from '../mirror/mirror.js';
import { withRange } from '../range-lock.js';

/** Null: the record is on its way. Otherwise why not. */
export async function readRegion(
  volumes: readonly GuestVolume[],
  mirror: Mirror,
  request: ReadRegion,
): Promise<{ readonly code: string; readonly message: string } | null> {
  const volume = volumes.find(({ index }) => index === request.volume);
  if (volume === undefined) return { code: 'unknown-volume', message: `there is no volume ${request.volume}` };
  const { offset, length, tag } = request;
  if (offset + length > volume.sizeBytes || length > MAX_PAYLOAD_BYTES) {
    return {
      code: 'bad-range',
      message: `volume ${volume.name} has ${volume.sizeBytes} bytes; at most ${MAX_PAYLOAD_BYTES} at once`,
    };
  }
  return await withRange(volume.lock, offset, length, async () => {
    const mayBeUnstable = volume.hasUnflushed;
    try {
      const data = await readSlices(volume.reader, offset, length);
      const number = mirror.copied(FrameType.Write, tag, volume.index, offset, length, data);
      if (number === 0) {
        return { code: 'not-streaming', message: 'the agent has nothing to number it with: a gap, or no room' };
      }
      if (mayBeUnstable) volume.wasCopied();
      return null;
    } catch (fault) {
      if (!(fault instanceof DeviceError)) throw fault;
      return { code: 'unreadable', message: fault.message };
    }
  });
}
