/**
 * From a lost or failing connection back to serving: what is in flight settles, connections are opened, what may
 * have been lost is played, and only then anything passes (promises OUTAGE, REPLAY). The states are
 * connection-state.ts's; what happens to requests meanwhile is upstream.ts's.
 */
import { asError, type Clock, Fault, type Logger, type Timer } from '@rephub/platform';
import { stepUpstream, UP, type UpstreamEvent, type UpstreamState } from './connection-state.js';
import { type LanePool } from './lane-pool.js';
import { type Replay, type ReplayAttempt, type ReplayOutcome } from './replay.js';
import { ReplayProgress } from './replay-progress.js';
import { connectTimeoutMs, delayBefore, probeDelayMs, type RetryPolicy } from './retry-policy.js';

export interface RecoveryParts {
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly policy: RetryPolicy;
  readonly pool: LanePool;
  /** Nothing is in flight on any connection. */
  readonly isSettled: () => boolean;
  readonly makeReplay: (attempt: ReplayAttempt) => Replay;
  /** Nothing passes from now on. */
  readonly left: () => void;
  /** A connection could not be had: requests that have waited long enough fail. */
  readonly stillAway: () => void;
  /** All is played; requests pass again. */
  readonly recovered: (replay: Replay) => void;
}

export class Recovery {
  state: UpstreamState = UP;
  /** Rises with each return: an operation knows whether connections were opened anew since it failed. */
  generation = 0;
  readonly #parts: RecoveryParts;
  #running = false;
  #reopenAll = false;
  #settled: (() => void) | null = null;
  #pause: { timer: Timer; wake: () => void } | null = null;

  constructor(parts: RecoveryParts) {
    this.#parts = parts;
  }

  get isUp(): boolean {
    return this.state.kind === 'up';
  }

  /** A connection died. */
  lost(fault: Fault, isQuiet: boolean): void {
    const { log, name, clock } = this.#parts;
    if (this.state.kind === 'closed') return;
    const fields = { volume: name, code: fault.code, reason: fault.message };
    if (isQuiet) log.info('upstream-lost', fields);
    else log.warn('upstream-lost', fields);
    this.#step({ kind: 'lost', nowMs: clock.monotonicMs(), reason: fault.message });
    this.#parts.left();
    this.#start();
  }

  /** All connections are let go and opened anew, what is unflushed is played. Does nothing while that is under way. */
  reopen(reason: string): void {
    if (!this.isUp) return;
    this.#parts.log.warn('upstream-reopened', { volume: this.#parts.name, reason });
    this.#reopenAll = true;
    this.#step({ kind: 'reopen', nowMs: this.#parts.clock.monotonicMs(), reason });
    this.#parts.left();
    this.#start();
  }

  /** Something in flight has ended. */
  noteSettled(): void {
    if (this.#settled === null || !this.#parts.isSettled()) return;
    this.#settled();
    this.#settled = null;
  }

  close(): void {
    this.#step({ kind: 'close' });
    this.#settled?.();
    this.#settled = null;
    this.#wake();
  }

  #step(event: UpstreamEvent): void {
    this.state = stepUpstream(this.state, event);
  }

  #is(kind: UpstreamState['kind']): boolean {
    return this.state.kind === kind;
  }

  #start(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    const progress = new ReplayProgress();
    let tries = 0;
    let played: Replay | null = null;
    while (!this.#is('closed') && !this.#is('up')) {
      const { replay, outcome } = await this.#once(tries, progress);
      // What is left now has failed once at most.
      if (replay?.hasProgressed === true) tries = 0;
      if (outcome === 'again') tries++;
      else {
        played = replay;
        if (this.#is('playing')) this.#step({ kind: 'played' });
      }
    }
    this.#running = false;
    if (!this.isUp || played === null) return;
    this.generation++;
    this.#parts.recovered(played);
  }

  /** Settles, connects, plays. `again`: an entry was refused, and another try is due. */
  async #once(
    tries: number,
    progress: ReplayProgress,
  ): Promise<{ readonly replay: Replay | null; readonly outcome: ReplayOutcome }> {
    const { pool, policy, name, log, clock } = this.#parts;
    await this.#whenSettled();
    if (this.#reopenAll) {
      this.#reopenAll = false;
      await pool.closeAll();
    }
    this.#step({ kind: 'settled' });
    if (tries > 0) await this.#sleep(delayBefore(policy, tries));
    await this.#connect();
    if (this.#is('closed')) return { replay: null, outcome: 'again' };
    this.#step({ kind: 'opened' });
    const replay = this.#parts.makeReplay({
      progress,
      mayTryAgain: tries < policy.retries,
      isCut: () => !this.#is('playing'),
    });
    const outcome = await replay.run();
    if (outcome === 'played') return { replay, outcome };
    log.warn('upstream-refuses-replay', { volume: name, tries: tries + 1 });
    if (this.#is('playing')) {
      this.#reopenAll = true;
      this.#step({
        kind: 'reopen',
        nowMs: clock.monotonicMs(),
        reason: 'upstream refused to write again what it may have lost',
      });
    }
    return { replay, outcome };
  }

  #whenSettled(): Promise<void> {
    if (this.#parts.isSettled()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#settled = resolve;
    });
  }

  /** Until every needed place has its connection, or the end. */
  async #connect(): Promise<void> {
    const { pool, policy, name, log, clock } = this.#parts;
    const sinceMs = 'sinceMs' in this.state ? this.state.sinceMs : clock.monotonicMs();
    let timedOut = 0;
    let said = '';
    while (pool.missing && !this.#is('closed')) {
      try {
        await pool.openNext(connectTimeoutMs(timedOut));
      } catch (thrown) {
        const fault = asError(thrown);
        const code = fault instanceof Fault ? fault.code : 'internal';
        if (code.endsWith('-timeout')) timedOut++;
        if (this.#is('closed')) return;
        this.#step({ kind: 'open-failed', reason: fault.message, refused: code === 'upstream-changed' });
        // One line for each reason, not for each of twenty tries a second.
        if (fault.message !== said) log.warn('upstream-unreachable', { volume: name, code, reason: fault.message });
        said = fault.message;
        this.#parts.stillAway();
        await this.#sleep(probeDelayMs(policy, clock.monotonicMs() - sinceMs));
      }
    }
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#parts.clock.after(delayMs, () => {
        this.#pause = null;
        resolve();
      });
      this.#pause = { timer, wake: resolve };
    });
  }

  #wake(): void {
    this.#pause?.timer.cancel();
    this.#pause?.wake();
    this.#pause = null;
  }
}
