/** The loads that are measured, as in fio's words. One per kind of work that a VM's disk does. */
import { type LoadOptions } from '../test/kit/load.js';

export interface Profile extends Required<Pick<LoadOptions, 'pattern' | 'blockBytes' | 'depth'>> {
  readonly name: string;
  /** What its figure counts. */
  readonly unit: 'IOPS' | 'MiB/s';
}

export const PROFILES: readonly Profile[] = [
  { name: 'randwrite 4k, depth 32', pattern: 'randwrite', blockBytes: 4096, depth: 32, unit: 'IOPS' },
  { name: 'write 128k, depth 8', pattern: 'write', blockBytes: 128 * 1024, depth: 8, unit: 'MiB/s' },
  { name: 'randread 4k, depth 32', pattern: 'randread', blockBytes: 4096, depth: 32, unit: 'IOPS' },
  { name: 'read 128k, depth 8', pattern: 'read', blockBytes: 128 * 1024, depth: 8, unit: 'MiB/s' },
  { name: 'randwrite 4k, depth 1', pattern: 'randwrite', blockBytes: 4096, depth: 1, unit: 'IOPS' },
  { name: 'randread 4k, depth 1', pattern: 'randread', blockBytes: 4096, depth: 1, unit: 'IOPS' },
];

/** True for loads that leave nothing to replicate. */
export function onlyReads({ pattern }: Profile): boolean {
  return pattern === 'read' || pattern === 'randread';
}
