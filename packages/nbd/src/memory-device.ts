import type { Abilities, BlockDevice, Limits } from './block-device.js';

export interface MemoryDeviceOptions {
  readonly abilities?: Partial<Abilities>;
  readonly limits?: Partial<Limits>;
}

/** A sparse device in memory: pages are made when written. Answers within `submit`. */
export function memoryDevice(sizeBytes: number, options: MemoryDeviceOptions = {}): BlockDevice {
  void sizeBytes;
  void options;
  throw new Error('not built yet');
}
