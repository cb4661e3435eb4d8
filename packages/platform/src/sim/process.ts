/**
 * A process on a simulated host: the host's clock, files and network, until it is killed or stopped. Any number
 * of them may live on one host, one after the other or at the same time.
 *
 * Always holds: from the moment of its death none of its code is called by anything outside, no timer, no
 * completion of what it had begun, no chunk; what it still calls has no effect. Its disk keeps what it wrote, in
 * the page cache too: what a power cut leaves of that is the host's affair (SimFiles.crash).
 */
import type { Clock, Timer } from '../clock.js';
import type { Platform } from '../platform.js';
import { Life, type LifeState } from './life.js';
import { ProcessFiles } from './process-files.js';
import { ProcessNetwork } from './process-network.js';
import type { HostNetwork } from './network.js';

/** What a process finds on its host: a SimPlatform, or one whose network is listened to (see `tappedNetwork`). */
export interface SimHost extends Platform {
  readonly network: HostNetwork;
}

export class SimProcess {
  /** What the code in it is given. */
  readonly platform: Platform;
  readonly #life: Life;
  readonly #files: ProcessFiles;
  readonly #network: ProcessNetwork;

  constructor(host: SimHost) {
    const life = new Life(host.clock);
    this.#life = life;
    this.#files = new ProcessFiles(host.files, life);
    this.#network = new ProcessNetwork(host.network, life);
    this.platform = {
      clock: new ProcessClock(host.clock, life),
      files: this.#files,
      network: this.#network,
      randomness: host.randomness,
      codecs: host.codecs,
      bootId: host.bootId,
    };
  }

  get state(): LifeState {
    return this.#life.state;
  }

  /** Timers, completions and chunks that have reached it so far. */
  get steps(): number {
    return this.#life.steps;
  }

  /** SIGKILL: its connections end, its listeners and locks are gone. */
  kill(): void {
    this.#life.end();
    this.#network.closeAll();
    this.#files.releaseLocks();
  }

  /**
   * Its host loses power: as `kill`, but nobody is told. Peers hear nothing until the host is back, after
   * `backAfterMs`, and then only when they send.
   */
  losePower(backAfterMs = Infinity): void {
    this.#life.end();
    this.#network.vanish(backAfterMs);
    this.#files.releaseLocks();
  }

  /** It dies instead of taking its `step`-th step (1 = the first): the way to be killed at every await. */
  killAtStep(step: number, killed: () => void = () => undefined): void {
    this.#life.dieAt(step, () => {
      this.kill();
      killed();
    });
  }

  /** SIGSTOP: the kernel goes on for it, taking connections and bytes as far as its buffers reach. */
  pause(): void {
    if (this.#life.state !== 'running') return;
    this.#life.pause();
    this.#network.pause();
  }

  /** SIGCONT. */
  resume(): void {
    if (this.#life.state !== 'paused') return;
    this.#life.resume();
    this.#network.resume();
  }
}

class ProcessClock implements Clock {
  readonly #clock: Clock;
  readonly #life: Life;

  constructor(clock: Clock, life: Life) {
    this.#clock = clock;
    this.#life = life;
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  unixMs(): number {
    return this.#clock.unixMs();
  }

  after(delayMs: number, run: () => void): Timer {
    let cancelled = false;
    const timer = this.#clock.after(delayMs, () => {
      this.#life.timer(() => {
        if (!cancelled) run();
      });
    });
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }
}
