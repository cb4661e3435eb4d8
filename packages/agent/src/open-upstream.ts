/** Opens what `--upstream` names: an NBD server or a plain file. */
import { type BlockDevice, connectNbd, type NbdClient, openFileDevice, parseDeviceUri } from '@rephub/nbd';
import { ConfigFault, type Fault, type Platform } from '@rephub/platform';
import { type OpenUpstream } from './upstream.js';

/** A device smaller than a sector, or not a whole number of them, cannot be a disk. */
const SECTOR_BYTES = 512;

/** Throws a ConfigFault for a URI that is wrong; the function returned throws when upstream cannot be had. */
export function upstreamOpener(platform: Platform, uri: string, requestTimeoutMs: number): OpenUpstream {
  const parsed = parseDeviceUri(uri);
  if (parsed.kind === 'file') {
    return () => openFileDevice(platform.files, parsed.path);
  }
  return async (lost) => {
    const client: NbdClient = await connectNbd(platform, parsed, {
      requestTimeoutMs,
      lost: (fault: Fault) => {
        lost(fault);
      },
    });
    return client;
  };
}

/** Throws a ConfigFault when the device cannot be a protected disk. */
export function checkUpstream(device: BlockDevice, uri: string): void {
  const size = device.sizeBytes;
  if (size === 0) throw new ConfigFault('upstream-empty', `upstream ${uri} is empty`);
  if (size % SECTOR_BYTES !== 0) {
    throw new ConfigFault('upstream-odd-size', `upstream ${uri} has ${size} bytes, not a multiple of ${SECTOR_BYTES}`);
  }
}
