/**
 * Can a file system hold base images of these sizes? Asked before the first byte is sent, not when the image has grown
 * so far (promise SIZE): ext4 ends at 16 TiB.
 */
import { asError, type FileSystem, StorageFault } from '@rephub/platform';

/** Every file system that a hub may be on holds files of this size. */
const SURELY_HELD_BYTES = 2 ** 31;

export interface SizedVolume {
  readonly name: string;
  readonly sizeBytes: number;
}

/** As `probeSizes`, beside the directory of a group that knows some volumes already: only those that are new or have grown. */
export async function probeGrown(
  files: FileSystem,
  groupDirectory: string,
  known: readonly SizedVolume[],
  told: readonly SizedVolume[],
): Promise<StorageFault | null> {
  const sizes = new Map(known.map(({ name, sizeBytes }) => [name, sizeBytes]));
  const grown = told.filter(({ name, sizeBytes }) => sizeBytes > (sizes.get(name) ?? 0));
  const cut = groupDirectory.lastIndexOf('/');
  // No name of a group begins with a dot: a killed hub leaves nothing that the next start takes for one.
  const probe = `.${groupDirectory.slice(cut + 1)}.size-probe`;
  return await probeSizes(files, groupDirectory.slice(0, cut), probe, grown);
}

/** The fault of a volume that cannot be held in `directory`; null when all can. `name`: of the file that is made for it. */
async function probeSizes(
  files: FileSystem,
  directory: string,
  name: string,
  volumes: readonly SizedVolume[],
): Promise<StorageFault | null> {
  const largest = volumes.reduce<SizedVolume | null>(
    (most, volume) => (volume.sizeBytes > (most?.sizeBytes ?? SURELY_HELD_BYTES) ? volume : most),
    null,
  );
  if (largest === null) return null;
  const path = `${directory}/${name}`;
  await files.makeDirectory(directory);
  const file = await files.open(path, 'create');
  try {
    // Sparse: it takes no room.
    await file.truncate(largest.sizeBytes);
    return null;
  } catch (thrown) {
    const fault = asError(thrown);
    if (!(fault instanceof StorageFault) || fault.code !== 'file-too-big') throw fault;
    return new StorageFault(
      'volume-too-big',
      `volume ${largest.name} has ${largest.sizeBytes} bytes: the file system of ${directory} cannot hold a base image of that size ` +
        '(ext4 holds files of up to 16 TiB, with small blocks less; xfs and btrfs hold larger ones)',
      { cause: fault },
    );
  } finally {
    await file.close();
    await files.remove(path);
  }
}
