/** What a process holds in memory, as the kernel counts it. */
import { readFile } from 'node:fs/promises';

export interface ProcessMemory {
  readonly residentBytes: number;
  /** The most that was resident since its start. */
  readonly peakBytes: number;
}

/** Throws when there is no such process. */
export async function memoryOf(pid: number): Promise<ProcessMemory> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const bytes = (field: string): number => {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status);
    if (found === null) throw new Error(`/proc/${pid}/status has no ${field}`);
    return Number(found[1]) * 1024;
  };
  return { residentBytes: bytes('VmRSS'), peakBytes: bytes('VmHWM') };
}
