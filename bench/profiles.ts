/** The loads that are measured, as in fio's words. One per kind of work that a VM's disk does. */
import { type LoadOptions } from '../test/kit/load.js';

export interface Profile extends Pick<LoadOptions, 'pattern' | 'blockBytes' | 'depth'> {
  readonly name: string;
  /** What its figure counts. */
  readonly unit: 'IOPS' | 'MiB/s';
}

export const PROFILES: readonly Profile[] = [
  { name: 'randwrite 4k, depth 32', pattern: 'randwrite', blockBytes: 4096, depth: 32, unit: 'IOPS' },
  { name: 'write 128k, depth 8', pattern: 'write', blockBytes: 128 * 1024, depth: 8, unit: 'MiB/s' },
  { name: 'randread 4k, depth 32', pattern: 'randread', blockBytes: 4096, depth: 32, unit: 'IOPS' },
  { name: 'randwrite 4k, depth 1', pattern: 'randwrite', blockBytes: 4096, depth: 1, unit: 'IOPS' },
];
