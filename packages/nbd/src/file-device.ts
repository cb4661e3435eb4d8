import type { FileSystem } from '@rephub/platform';
import type { BlockDevice } from './block-device.js';

export interface FileDeviceOptions {
  readonly readOnly?: boolean;
}

/**
 * Opens a plain or block file as a device. Throws a ConfigFault: `upstream-missing`, `upstream-empty`,
 * `upstream-odd-size`, `upstream-read-only`, `upstream-not-a-file`; or the StorageFault of the file system.
 */
export function openFileDevice(files: FileSystem, path: string, options: FileDeviceOptions = {}): Promise<BlockDevice> {
  void files;
  void path;
  void options;
  throw new Error('not built yet');
}
