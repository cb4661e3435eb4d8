/** A device's abilities as the flags that an NBD server advertises. Pure. */
import type { BlockDevice } from '../block-device.js';
import { type Framing, TransmissionFlag } from '../wire/constants.js';

/** `hasContexts`: block status was negotiated for this export. */
export function transmissionFlags(device: BlockDevice, framing: Framing, hasContexts: boolean): number {
  const { abilities } = device;
  const writable = !abilities.readOnly;
  let flags: number = TransmissionFlag.HasFlags;
  if (!writable) flags |= TransmissionFlag.ReadOnly;
  if (abilities.flush) flags |= TransmissionFlag.SendFlush;
  if (abilities.fua) flags |= TransmissionFlag.SendFua;
  if (abilities.trim && writable) flags |= TransmissionFlag.SendTrim;
  if (abilities.writeZeroes && writable) {
    flags |= TransmissionFlag.SendWriteZeroes;
    if (abilities.fastZero) flags |= TransmissionFlag.SendFastZero;
  }
  if (framing !== 'simple') flags |= TransmissionFlag.SendDf;
  if (abilities.multiConn) flags |= TransmissionFlag.CanMultiConn;
  if (abilities.cache) flags |= TransmissionFlag.SendCache;
  if (framing === 'extended' && hasContexts) flags |= TransmissionFlag.BlockStatusPayload;
  return flags;
}
