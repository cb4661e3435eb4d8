/**
 * GUEST: what the guest reads is what it wrote, it gets no errors of ours and waits for nobody but its own disk. OUTAGE: while
 * upstream is away requests wait and are answered. FAIL-OPEN: trouble with the state files is not the guest's.
 * ACK: an answered write is upstream.
 */
import { upstreamBlock } from '../disk-contents.js';
import { Command, NbdError } from '@rephub/nbd';
import { type LogFields } from '@rephub/platform';
import { type World } from '../world.js';
import { type Answered, type OpenRequest } from '../workload.js';
import { type Checker, type Crash } from './checker.js';
import { Unplayed } from './unplayed.js';

/** Nothing of ours may hold a request for so long. */
const LONGEST_MS = 3_000;
/** Until a process has noted for the next one what it knows of upstream. */
const NOTED_WITHIN_MS = 50;

export class Guest implements Checker {
  readonly #world: World;
  #waitedUntilMs = 0;
  #upstreamLostAt = 0;
  readonly #unplayed: Unplayed;
  /** Volumes that have been flushed for the guest since the agent's start. */
  readonly #flushed = new Set<number>();
  /** Volumes whose upstream was lost before that: what the process before wrote is not at hand, and one flush must say so (FLUSH). */
  readonly #owed = new Set<number>();
  /** Volumes whose upstream went away or failed a flush, and when it was given again what it may have lost, if it was. */
  readonly #unsettled = new Map<number, number>();
  readonly #everUnsettled = new Set<number>();
  /** Those of processes before this one. */
  readonly #inherited = new Set<number>();

  constructor(world: World) {
    this.#world = world;
    this.#unplayed = new Unplayed(world);
  }

  logged(event: string, fields: LogFields): void {
    this.#unplayed.logged(event, fields);
    const index = this.#world.setup.volumes.findIndex(({ name }) => name === fields['volume']);
    const isLost = event === 'upstream-lost' || event === 'upstream-reopened';
    if (isLost && (!this.#flushed.has(index) || this.#world.setup.replayBytes === 0)) this.#owed.add(index);
    if ((isLost || event === 'upstream-sync-failed') && this.#world.history.hasUnflushed(index, true)) {
      this.#unsettled.set(index, Infinity);
      this.#everUnsettled.add(index);
    }
    if (event === 'upstream-back' && this.#unsettled.has(index)) this.#unsettled.set(index, this.#world.nowMs);
    if (event === 'doubts-recalled' && fields['flushErrorOwed'] === true && this.#mayOwe(index)) this.#owed.add(index);
    if (event === 'upstream-lost') this.#upstreamLostAt = this.#world.history.tick();
  }

  /** Where nothing can be stored any more, or an old state came back, what was noted once stays, or comes back. */
  #mayOwe(volume: number): boolean {
    return this.#inherited.has(volume) || (this.#world.excuses.stateDamaged && this.#everUnsettled.has(volume));
  }

  crashed(crash: Crash): void {
    this.#unplayed.crashed(crash);
    if (crash.who !== 'agent') return;
    this.#flushed.clear();
    for (const [volume, settledMs] of this.#unsettled) {
      if (settledMs > this.#world.nowMs - NOTED_WITHIN_MS) this.#inherited.add(volume);
    }
    for (const volume of this.#owed) this.#inherited.add(volume);
    this.#unsettled.clear();
    this.#owed.clear();
  }

  moment(): void {
    const world = this.#world;
    if (world.excuses.requestsWait) this.#waitedUntilMs = world.nowMs;
    for (const request of world.guests.open) this.#waited(request);
  }

  answered(answer: Answered): void {
    if (answer.error === NbdError.Eshutdown) {
      if (answer.isTold) this.#givenUp(answer);
      return;
    }
    const isFlush = answer.command === Command.Flush;
    if (isFlush && answer.error === 0) this.#flushed.add(answer.volume);
    if (isFlush) this.#inherited.delete(answer.volume);
    if (isFlush && this.#owed.delete(answer.volume) && answer.error !== 0) return;
    if (answer.error !== 0) this.#failed(answer);
    else if (answer.contents !== null) this.#read(answer, answer.contents);
    else if (answer.operation !== null) this.#written(answer);
    this.#waited(answer);
  }

  /** Only an agent that ends waits for nobody any more. */
  #givenUp({ command, volume, block, submittedMs }: Answered): void {
    const { agent } = this.#world;
    const isOver = !agent.isWanted || agent.startedMs >= submittedMs;
    this.#world.check('OUTAGE', isOver, () => {
      return `the guest's command ${command} at ${volume}:${block} got ESHUTDOWN from an agent that does not end`;
    });
  }

  #failed({ command, volume, block, error }: Answered): void {
    const world = this.#world;
    const { excuses } = world;
    const promise = excuses.stateDamaged ? 'FAIL-OPEN' : this.#upstreamLostAt > 0 ? 'OUTAGE' : 'GUEST';
    world.check(promise, excuses.guestErrors, () => {
      return `the guest's command ${command} at ${volume}:${block} got error ${error}, and its disk has had no fault`;
    });
  }

  #read({ volume, block, submitted }: Answered, contents: Int32Array): void {
    const world = this.#world;
    for (const [at, content] of contents.entries()) {
      if (world.history.allows(volume, block + at, content, submitted)) continue;
      const asked = world.history.tell(volume, block + at);
      world.check('GUEST', false, () => {
        return `a read at moment ${submitted} of block ${volume}:${block + at} shows ${world.contents.describe(content)}; asked: ${asked}`;
      });
      return;
    }
    world.check('GUEST', true, () => '');
    if (this.#upstreamLostAt > 0) world.check('OUTAGE', true, () => '');
    if (world.excuses.stateDamaged) world.check('FAIL-OPEN', true, () => '');
  }

  #written({ volume, block }: Answered): void {
    const world = this.#world;
    const content = upstreamBlock(world, volume, block);
    // The upstream may be gone, with what it had not flushed and what is played again before anybody reads it.
    if (content === null || this.#unplayed.maySeeOld(volume)) return;
    const holds = world.history.allows(volume, block, content, world.history.tick());
    world.check('ACK', holds, () => {
      const asked = world.history.tell(volume, block);
      return `block ${volume}:${block} was acknowledged, upstream holds ${world.contents.describe(content)}; asked: ${asked}`;
    });
  }

  #waited({ command, volume, block, submittedMs }: OpenRequest): void {
    const world = this.#world;
    // With `block`, `freeze` and the modes but async requests wait for the hub: that is what they are for.
    const blocks = world.setup.onCongestion === 'block' || world.answersWait;
    const excused = blocks || submittedMs <= this.#waitedUntilMs + 1000 || world.excuses.requestsWait;
    const tookMs = world.nowMs - submittedMs;
    if (excused || tookMs < LONGEST_MS) return;
    const promise = world.excuses.stateDamaged ? 'FAIL-OPEN' : 'GUEST';
    world.check(promise, false, () => `the guest's command ${command} at ${volume}:${block} takes ${tookMs} ms`);
  }
}
