/**
 * One of the two hosts: its disk, and the one process on it. The host loses power at a chosen change of its disk, in the
 * very moment of it, or the process is killed at a chosen step; what the disk holds then is what the next process finds.
 */
import { type Platform } from '@rephub/platform';
import {
  type CrashOptions,
  type HostNetwork,
  SeededRandomness,
  type SimClock,
  type SimFiles,
  type SimFilesOptions,
  type SimNetwork,
  simPlatform,
  SimProcess,
} from '@rephub/platform/sim';

export type Fate = NonNullable<CrashOptions['fate']>;

export interface HostParts {
  readonly clock: SimClock;
  readonly network: SimNetwork;
  readonly files: SimFiles;
  /** What its processes say and hear passes here. */
  readonly overhear?: (network: SimNetwork) => HostNetwork;
  /** A host that lost power is back so much later. */
  readonly backMs: number;
  /** The process was killed, as `killAtStep` said. */
  readonly killed: () => void;
  /** Power went; the disk is what the crash has left of it. */
  readonly lostPower: () => void;
}

export class Host {
  files: SimFiles;
  readonly #parts: HostParts;
  #process: SimProcess | null = null;

  constructor(parts: HostParts) {
    this.#parts = parts;
    this.files = parts.files;
  }

  get isRunning(): boolean {
    return this.#process?.state === 'running';
  }

  /** A process begins; what it is given. `seed` decides what is random in it. */
  begin(seed: number): { readonly platform: Platform; readonly isRunning: () => boolean } {
    const { clock, network, overhear } = this.#parts;
    const host = simPlatform(seed, { clock, network, files: this.files });
    const process = new SimProcess({ ...host, network: overhear?.(network) ?? network });
    this.#process = process;
    return { platform: process.platform, isRunning: () => process.state === 'running' };
  }

  /** SIGKILL: what it wrote is still in the page cache. Harmless when nothing runs. */
  kill(): void {
    this.#process?.kill();
  }

  /** It is killed instead of its `step`-th step from now on (a timer, a completion, a chunk). */
  killAtStep(step: number): void {
    const process = this.#process;
    process?.killAtStep(process.steps + step, this.#parts.killed);
  }

  /** It is not killed any more. */
  spare(): void {
    this.#process?.killAtStep(Infinity);
  }

  /** Power goes at the `change`-th change of the disk from now on (1 = the next one). */
  crashAt(change: number, seed: () => number, fate: Fate): void {
    const { files } = this;
    files.crashAt(files.changes + change);
    files.onCrash = () => {
      this.losePower(seed(), fate);
    };
  }

  losePower(seed: number, fate: Fate): void {
    this.#process?.losePower(this.#parts.backMs);
    this.files = this.files.crash({ seed, fate });
    this.#parts.lostPower();
  }
}

/** Operations take from 20 µs to 1 ms, reads up to 2 ms, syncs up to 5 ms: crashes and writes find every step half done. */
export function busyDisk(clock: SimClock, seed: number, syncMs: () => number = () => 0): SimFilesOptions {
  const random = new SeededRandomness(seed);
  return {
    clock,
    delayMs: (operation) => {
      const part = random.fraction();
      if (operation === 'read') return 0.02 + part * 2;
      return operation === 'sync' ? syncMs() + part ** 4 * 5 : 0.02 + part ** 4;
    },
  };
}
