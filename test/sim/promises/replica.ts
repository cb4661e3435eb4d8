/**
 * What the replica shows: PIT (the same point, the same bytes, those of the records up to it), ORD (nothing without what was
 * acknowledged before it), SIZE (that of the volume at some time), LASTGOOD (a point can be opened at all times), ISOLATE (nothing of a test), FAILWR (unreadable is an
 * error, never zeroes), RPO (never told better than it is).
 */
import { UNREADABLE } from '../block-content.js';
import { baseContents } from '../disk-contents.js';
import { TEST_OPERATIONS } from '../test-branches.js';
import { type World } from '../world.js';
import { type Checker, type Look } from './checker.js';

/** The hub hears of the agent once in a heartbeat interval, over the link. */
const TOLD_LATE_MS = 1_200;

export class Replica implements Checker {
  readonly #world: World;
  /** At the beginning. */
  readonly #wallAheadMs: number;
  #newest = 0;
  #line = '';
  #begunAnew = 0;
  #older = 0;

  constructor(world: World) {
    this.#world = world;
    this.#wallAheadMs = world.clock.unixMs() - world.clock.monotonicMs();
  }

  verdict(): void {
    // What a hub has said that is gone meanwhile tells nothing of what the next one holds.
    if (this.#world.hub.up === null) return;
    this.#world.excuses.exposureUnknown = false;
    this.#foundBelowFold();
  }

  /** Damage has left only points below what a fold had begun to put into the images: nobody is shown them, and what comes lies over it. */
  #foundBelowFold(): void {
    const { records, store } = this.#world;
    if (store === null) return;
    const { consistentNumber, corrupted, lastNumber, lastChecksum, appliedNumber } = store.state;
    if (consistentNumber !== null || corrupted === null || lastNumber === 0) return;
    const images = baseContents(this.#world, '/data/groups/vm1/base');
    const unexplained = records.lostAfter(lastNumber, lastChecksum, appliedNumber, images);
    this.#world.check('PIT', unexplained === null, () => {
      return `the image of volume ${unexplained?.volume} holds in block ${unexplained?.block} what neither a record up to ${appliedNumber} nor a lost one has put there`;
    });
  }

  second(): void {
    const { group, store, excuses } = this.#world;
    if (group === null || store === null) return;
    const { consistentNumber, lastNumber, lastChecksum } = store.state;
    const line = store.state.line?.id ?? '';
    const isAnew = excuses.groupBegunAnew !== this.#begunAnew || line !== this.#line;
    const older = excuses.hubCameBackOlder + excuses.hubRots;
    if (isAnew || older !== this.#older) this.#newest = 0;
    this.#line = line;
    this.#begunAnew = excuses.groupBegunAnew;
    this.#older = older;
    this.#world.check('LASTGOOD', consistentNumber !== null || this.#newest === 0, () => {
      return `no point can be opened, though ${this.#newest} could: ${store.state.corrupted ?? ''} ${store.state.stalled ?? ''}`;
    });
    // A line that is just being begun has nothing yet to compare with.
    if (consistentNumber === null || lastNumber === 0) return;
    this.#world.check('LASTGOOD', consistentNumber >= this.#newest, () => {
      return `the newest point is ${consistentNumber}, it was ${this.#newest}`;
    });
    this.#newest = consistentNumber;
    this.#world.check('SPAN', !this.#world.records.spanOpenAt(consistentNumber, lastNumber, lastChecksum), () => {
      return `point ${consistentNumber} is offered, and lies inside a span`;
    });
  }

  looked({ number, shown, fold }: Look): void {
    const world = this.#world;
    for (const [volume, contents] of shown.entries()) {
      world.check('SIZE', contents === null || world.hasHadSize(volume, contents.length), () => {
        return `point ${number} has ${contents?.length ?? 0} blocks in volume ${volume}, its upstream never had`;
      });
      if (contents !== null && fold !== null) this.#compare(number, volume, contents, fold[volume] ?? new Int32Array());
    }
    if (fold === null) return;
    const { violation, oldestMissingMs } = world.history.judge(fold);
    world.check('ORD', violation === null, () => {
      if (violation === null) return '';
      const { volume, block, shows, lacks } = violation;
      const asked = world.history.tell(volume, block);
      return [
        `point ${number} shows ${world.contents.describe(shows)} in block ${volume}:${block} and lacks ${lacks.kind} ${lacks.id},`,
        `though it shows writes that were submitted after that one was acknowledged; asked: ${asked}`,
      ].join(' ');
    });
    if (number === world.store?.progress.consistentNumber) this.#rpo(oldestMissingMs, number);
  }

  #wallHasJumped(): boolean {
    const { clock } = this.#world;
    return Math.abs(clock.unixMs() - clock.monotonicMs() - this.#wallAheadMs) > 1;
  }

  #compare(number: number, volume: number, shown: Int32Array, fold: Int32Array): void {
    const world = this.#world;
    for (let block = 0; block < shown.length; block += 1) {
      const content = shown[block] ?? 0;
      const expected = fold[block] ?? 0;
      if (content === expected) continue;
      const isTest = content >= TEST_OPERATIONS;
      const promise = isTest ? 'ISOLATE' : expected === UNREADABLE ? 'FAILWR' : 'PIT';
      const asked = world.history.tell(volume, block);
      world.check(promise, false, () => {
        return [
          `point ${number} shows ${world.contents.describe(content)} in block ${volume}:${block},`,
          `the records up to it make ${world.contents.describe(expected)}; asked: ${asked}`,
        ].join(' ');
      });
      return;
    }
    world.check('PIT', true, () => '');
    if (fold.includes(UNREADABLE)) world.check('FAILWR', true, () => '');
  }

  #rpo(oldestMissingMs: number, number: number): void {
    const world = this.#world;
    if (oldestMissingMs === Infinity) return;
    if (world.agent.isStopped || world.hub.isStopped) return;
    const trueMs = world.nowMs - oldestMissingMs;
    const told = world.group?.status() ?? null;
    if (told === null) return;
    const toldMs = 1000 * (told.rpoSeconds ?? told.rpoAtLeastSeconds);
    // Before the agent has spoken since the hub's start nothing is said, but that nothing is known.
    const unknown = told.rpoSeconds === null;
    world.check('RPO', unknown || toldMs + TOLD_LATE_MS >= trueMs, () => {
      return `the hub tells an RPO of ${toldMs} ms (${told.state}), a write of ${trueMs} ms ago is not in point ${number}`;
    });
    // A hub that was started again and has heard nobody goes by what the agent told the one before, and by the wall clock.
    const goesByReport = told.rpoSince?.by === 'last-report' && !this.#wallHasJumped();
    world.check('RPO', !goesByReport || toldMs + TOLD_LATE_MS >= trueMs, () => {
      return `a new hub tells at least ${toldMs} ms since ${told.rpoSince?.at ?? ''}, a write of ${trueMs} ms ago is not in point ${number}`;
    });
    const agent = world.agent.up?.status() ?? null;
    const agentMs = agent?.rpoSeconds ?? null;
    // What the hub has lost the agent hears when they speak.
    if (agentMs === null || world.excuses.exposureUnknown) return;
    world.check('RPO', 1000 * agentMs + 1 >= trueMs, () => {
      return `the agent tells an RPO of ${agentMs} s (${agent?.state ?? ''}), a write of ${trueMs} ms ago is not in point ${number}`;
    });
  }
}
