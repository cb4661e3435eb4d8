/** What the figures were measured on, and waiting until it is quiet. */
import { readFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { must, run } from '../test/kit/process.js';
import { type Scope } from '../test/kit/scope.js';
import { tempDir } from '../test/kit/temp-dir.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  /** Before anything was started: above a few tenths somebody else was at work. */
  readonly loadAverage: number;
  readonly kernel: string;
  readonly node: string;
  readonly versions: Readonly<Record<string, string>>;
  /** Sequential writes of 1 MiB with an fdatasync every 64: what a journal on this disk can hope for. */
  readonly diskWriteMiBPerSecond: number;
  /** 4 KiB written and synced, median. */
  readonly diskSyncMicroseconds: number;
}

interface FioJob {
  readonly write: { readonly bw_bytes: number };
  readonly sync: { readonly lat_ns?: { readonly percentile?: Readonly<Record<string, number>> } };
}

async function fioOnDisk(dir: string, args: readonly string[]): Promise<FioJob> {
  const common = [
    '--name=disk',
    `--filename=${join(dir, 'probe')}`,
    '--ioengine=psync',
    '--output-format=json',
    '--time_based',
  ];
  const text = await must('fio', [...common, ...args]);
  const job = (JSON.parse(text.slice(text.indexOf('{'))) as { jobs: readonly FioJob[] }).jobs[0];
  if (job === undefined) throw new Error(`fio gave no figures: ${text}`);
  return job;
}

export async function describeMachine(scope: Scope, seconds: number): Promise<Machine> {
  const loadAverage = loadavg()[0] ?? 0;
  const dir = await tempDir(scope);
  const bulk = await fioOnDisk(dir, ['--rw=write', '--bs=1m', '--size=2g', '--fdatasync=64', `--runtime=${seconds}`]);
  const small = await fioOnDisk(dir, [
    '--rw=randwrite',
    '--bs=4k',
    '--size=64m',
    '--fdatasync=1',
    `--runtime=${Math.min(seconds, 3)}`,
  ]);
  const versions: Record<string, string> = {};
  for (const name of ['fio', 'nbdkit', 'qemu-storage-daemon']) {
    versions[name] = (await run(name, ['--version'])).stdout.split('\n')[0] ?? '';
  }
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    loadAverage,
    kernel: release(),
    node: process.version,
    versions,
    diskWriteMiBPerSecond: Math.round(bulk.write.bw_bytes / 2 ** 20),
    diskSyncMicroseconds: Math.round((small.sync.lat_ns?.percentile?.['50.000000'] ?? 0) / 1000),
  };
}

/** CPU time of a process so far, in clock ticks of 10 ms. */
async function ticks(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

/** Waits until these processes do next to nothing and the disk has taken what was written. */
export async function quiet(pids: readonly number[]): Promise<void> {
  await must('sync', [], { timeoutMs: 120_000 });
  const deadline = performance.now() + 60_000;
  for (;;) {
    const before = await Promise.all(pids.map(ticks));
    await delay(300);
    const after = await Promise.all(pids.map(ticks));
    const used = after.reduce((sum, now, index) => sum + now - (before[index] ?? 0), 0);
    if (used <= 2) return;
    if (performance.now() > deadline) throw new Error(`still busy after a minute: ${used * 10} ms of CPU in 300 ms`);
  }
}

export interface Memory {
  readonly nowMiB: number;
  readonly peakMiB: number;
}

/** Resident memory of a process, now and at its highest. */
export async function residentMemory(pid: number): Promise<Memory> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  const kib = (field: string): number => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(text)?.[1] ?? 0);
  return { nowMiB: Math.round(kib('VmRSS') / 1024), peakMiB: Math.round(kib('VmHWM') / 1024) };
}
