/**
 * Each volume has a disk of its own: what comes through one would be missing in the replica of the other.
 *
 * Must not know: that one NBD export may have several addresses, or lie in a file of another volume; nobody here can see it.
 */
import { formatDeviceUri, parseDeviceUri } from '@rephub/nbd';
import { ConfigFault, type FileSystem } from '@rephub/platform';
import { type VolumeConfig } from '../config.js';

type VolumeDisk = Pick<VolumeConfig, 'name' | 'upstream'>;

/** Throws a ConfigFault `upstream-shared` where two volumes have the same URI, however it is written. */
export function refuseSameUri(volumes: readonly VolumeDisk[]): void {
  const found = new Map<string, string>();
  for (const volume of volumes) claim(found, formatDeviceUri(parseDeviceUri(volume.upstream)), volume, volume.upstream);
}

/** The same for two names of one file (links, other ways to it). A file that is missing is told when it is opened. */
export async function refuseSameFile(files: FileSystem, volumes: readonly VolumeDisk[]): Promise<void> {
  const found = new Map<string, string>();
  for (const volume of volumes) {
    const uri = parseDeviceUri(volume.upstream);
    if (uri.kind !== 'file') continue;
    const status = await files.status(uri.path);
    if (status !== null) claim(found, status.identity, volume, uri.path);
  }
}

function claim(found: Map<string, string>, disk: string, { name }: VolumeDisk, shown: string): void {
  const other = found.get(disk);
  if (other !== undefined) {
    throw new ConfigFault(
      'upstream-shared',
      `volumes ${other} and ${name} have the same disk, ${shown}: give each its own`,
    );
  }
  found.set(disk, name);
}
