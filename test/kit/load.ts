/** fio as the guest: load on an NBD export, with or without verification, its figures as numbers. */
import { join } from 'node:path';
import { type Child, run, start } from './process.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';

export interface LoadOptions {
  /** `randwrite` when left out. */
  readonly pattern?: 'read' | 'write' | 'randread' | 'randwrite' | 'randrw';
  /** 4096 when left out. */
  readonly blockBytes?: number;
  /** Requests in flight; 8 when left out. */
  readonly depth?: number;
  readonly sizeBytes: number;
  readonly offsetBytes?: number;
  /** Runs for so long, over and over; without it, once over the size. */
  readonly seconds?: number;
  /** Runs over and over until it is stopped: for what takes as long as the machine needs. Only with `startLoad`. */
  readonly untilStopped?: boolean;
  /** Writes a checksum into each block and reads all back at the end. */
  readonly verify?: boolean;
  /** Most requests a second. */
  readonly ratePerSecond?: number;
  readonly seed?: number;
  readonly extra?: readonly string[];
}

export interface LoadFigures {
  readonly readIops: number;
  readonly writeIops: number;
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  readonly writtenBytes: number;
  readonly errors: number;
  /** 99th percentile of the completion latency of whichever direction did more. */
  readonly p99Ms: number;
}

/** What fio ends with after SIGINT. */
const CODE_OF_STOPPED_FIO = 128;

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly io_bytes: number;
  readonly clat_ns?: { readonly percentile?: Readonly<Record<string, number>> };
}

function fioArgs(uri: string, options: LoadOptions): readonly string[] {
  return [
    ...['--name=load', '--ioengine=nbd', `--uri=${uri}`, `--rw=${options.pattern ?? 'randwrite'}`],
    ...[`--bs=${options.blockBytes ?? 4096}`, `--iodepth=${options.depth ?? 8}`],
    ...[`--size=${options.sizeBytes}`, `--offset=${options.offsetBytes ?? 0}`],
    ...[`--randseed=${options.seed ?? 1}`, '--output-format=json', '--group_reporting'],
    ...(options.untilStopped === true ? ['--time_based', '--runtime=1d'] : []),
    ...(options.seconds === undefined ? [] : ['--time_based', `--runtime=${options.seconds}`]),
    ...(options.verify === true
      ? ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0']
      : []),
    ...(options.ratePerSecond === undefined ? [] : [`--rate_iops=${options.ratePerSecond}`]),
    ...(options.extra ?? []),
  ];
}

function figures(output: string): LoadFigures {
  const json = output.slice(output.indexOf('{'));
  const job = (JSON.parse(json) as { jobs: readonly { read: FioSide; write: FioSide; error: number }[] }).jobs[0];
  if (job === undefined) throw new Error(`fio gave no figures: ${output}`);
  const main = job.write.io_bytes > job.read.io_bytes ? job.write : job.read;
  return {
    readIops: job.read.iops,
    writeIops: job.write.iops,
    readBytesPerSecond: job.read.bw_bytes,
    writeBytesPerSecond: job.write.bw_bytes,
    writtenBytes: job.write.io_bytes,
    errors: job.error,
    p99Ms: (main.clat_ns?.percentile?.['99.000000'] ?? 0) / 1e6,
  };
}

/** Runs fio to its end. Fails when any request failed or anything read back was wrong. */
export async function load(uri: string, options: LoadOptions): Promise<LoadFigures> {
  const result = await run('fio', fioArgs(uri, options), { timeoutMs: ((options.seconds ?? 60) + 120) * 1000 });
  if (result.code !== 0)
    throw new Error(`fio ended with code ${result.code ?? 'none'}: ${result.stderr}${result.stdout.slice(-1500)}`);
  return figures(result.stdout);
}

/** A load that goes on while the test does something else. */
export interface RunningLoad {
  readonly child: Child;
  /** Waits for its end; fails as `load` does. */
  finished(): Promise<LoadFigures>;
  /** Ends one that runs until it is stopped, after the requests in flight; fails when it had ended, or as `load` does. */
  stopped(): Promise<LoadFigures>;
}

/** Starts fio in a folder of its own and returns at once. */
export async function startLoad(scope: Scope, uri: string, options: LoadOptions): Promise<RunningLoad> {
  const dir = await tempDir(scope);
  const child = start(scope, 'fio', [...fioArgs(uri, options), `--output=${join(dir, 'fio.json')}`], {
    cwd: dir,
    stopWithinMs: 2000,
  });
  const figuresAfter = async (expectedCode: number): Promise<LoadFigures> => {
    const exit = await child.waitForExit(((options.seconds ?? 60) + 120) * 1000);
    const text = (await run('cat', [join(dir, 'fio.json')])).stdout;
    if (exit.code !== expectedCode)
      throw new Error(`fio ended with ${exit.signal ?? exit.code ?? ''}: ${child.output}${text.slice(0, 400)}`);
    return figures(text);
  };
  return {
    child,
    finished: async () => await figuresAfter(0),
    stopped: async () => {
      child.signal('SIGINT');
      return await figuresAfter(CODE_OF_STOPPED_FIO);
    },
  };
}
