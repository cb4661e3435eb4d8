/**
 * SUPERSET: where upstream and the hub's durable content differ after a crash is marked on the agent's disk. And what
 * belongs to it: CLEAR (marks rest on what is durable and flushed), NOFULL (a crash alone marks no more than
 * what was dirty or hot), CORRUPT (damaged files are noticed).
 */
import { upstreamContents } from '../disk-contents.js';
import { type SimFiles } from '@rephub/platform/sim';
import { type Ack, type Hello, showsOldState, type Verdict, type Welcome } from '@rephub/protocol';
import { BLOCK_BYTES, UNREADABLE } from '../block-content.js';
import { durableState, type DurableState, findMarks, type FoundMarks } from '../imagined.js';
import { type World } from '../world.js';
import { type Checker, type Crash } from './checker.js';

/** Every so many answers a crash is imagined. */
const ANSWERS = 50;
const EXTENT_BYTES = 4 * 1024 * 1024;
const PROVEN_WITHIN_MS = 3_000;
/** No file of the agent's state is larger here. */
const SPOILED = Buffer.alloc(1 << 20);

export class Superset implements Checker {
  readonly #world: World;
  #turn = 0;
  #answers = 0;
  #seconds = 0;
  #resyncEndedMs = -Infinity;
  /** The highest that any hub has called durable. */
  #durableNumber = 0;

  constructor(world: World) {
    this.#world = world;
  }

  crashed({ who, fate }: Crash): void {
    if (who !== 'agent') return;
    const world = this.#world;
    const after = world.agent.files.imagineCrash({ seed: 1, fate: 'keep' });
    const allowed = this.#allowedBytes();
    void this.#judge('SUPERSET', after, upstreamContents(world, after), `a crash of the agent, fate ${fate}`, allowed);
  }

  hubAcked({ durable }: Ack): void {
    this.#durableNumber = Math.max(this.#durableNumber, durable);
  }

  verdict(_verdict: Verdict, _hello: Hello, { group }: Welcome): void {
    this.#durableNumber = Math.max(this.#durableNumber, group?.lastNumber ?? 0);
  }

  /** In the middle of the guest's work, when least is proven. */
  answered(): void {
    this.#answers += 1;
    if (this.#answers % ANSWERS === 0) this.#imagine();
  }

  /** And in quiet times. */
  second(): void {
    this.#seconds += 1;
    if (this.#seconds % 3 === 0) this.#imagine();
  }

  /** Takes turns: the agent killed now; power gone everywhere; the same with damaged files. */
  #imagine(): void {
    const world = this.#world;
    const { agent } = world;
    if (agent.up === null || agent.isStopped) return;
    this.#turn += 1;
    const seed = world.setup.seed * 1000 + this.#turn;
    switch (this.#turn % 3) {
      case 0: {
        const killed = agent.files.imagineCrash({ seed, fate: 'keep' });
        const upstream = upstreamContents(world, killed);
        void this.#judge('SUPERSET', killed, upstream, 'an imagined kill', this.#allowedBytes());
        return;
      }
      case 1: {
        const fate = (['lose', 'tear', 'garble', 'mixed'] as const)[(this.#turn / 3) & 3] ?? 'mixed';
        const cut = agent.files.imagineCrash({ seed, fate });
        void this.#judge('CLEAR', cut, upstreamContents(world, cut, true), `an imagined power cut, fate ${fate}`, null);
        return;
      }
      default: {
        const spoiled = agent.files.imagineCrash({ seed, fate: 'keep' });
        this.#spoil(spoiled, seed);
        void this.#judge('CORRUPT', spoiled, upstreamContents(world, spoiled), 'an imagined damage', null);
      }
    }
  }

  #spoil(files: SimFiles, seed: number): void {
    const random = this.#world.random(seed);
    const names = ['identity', 'hot.log', ...this.#world.setup.volumes.map(({ name }) => `${name}.map`)];
    const path = `/state/${names[random.below(names.length)] ?? 'hot.log'}`;
    const size = files.look(path, SPOILED, 0);
    // Half of the bits are where something is said.
    const said = notZero(SPOILED, 0, size);
    const draw = (from: readonly number[], first: number, count: number): number =>
      (random.chance() ? from[random.below(from.length)] : undefined) ?? first + random.below(count);
    if (size === 0) return;
    // One block goes bad. With both copies of the identity's newest image it is as if that had never been stored.
    const block = Math.floor(draw(said, 0, size) / BLOCK_BYTES);
    const first = block * BLOCK_BYTES;
    const saidThere = notZero(SPOILED, first, Math.min(size, first + BLOCK_BYTES));
    for (let bit = random.below(3); bit >= 0; bit -= 1) {
      files.rot(path, draw(saidThere, first, Math.min(BLOCK_BYTES, size - first)), random.below(8));
    }
  }

  logged(event: string): void {
    if (event === 'resync-ended') this.#resyncEndedMs = this.#world.nowMs;
  }

  /** What a kill now may make dirty, at most: null when that cannot be told. */
  #allowedBytes(): number | null {
    const world = this.#world;
    // What was copied last becomes clean when it is durable at the hub and flushed upstream.
    if (world.nowMs - this.#resyncEndedMs < PROVEN_WITHIN_MS) return null;
    const status = world.agent.up?.status() ?? null;
    if (status === null || world.excuses.stateDamaged || status.resync !== null) return null;
    // What has grown, and was not noticed yet, the next start finds larger than its marks: it compares everything.
    if (status.volumes.some(({ sizeBytes }, index) => sizeBytes !== world.blocksOf(index) * BLOCK_BYTES)) return null;
    if (status.tracking.found === 'new' || status.tracking.found === 'untrusted') return null;
    return status.dirtyBytes + status.windowBytes + (status.hotExtents + 2 + world.guests.open.size) * EXTENT_BYTES;
  }

  async #judge(
    promise: 'SUPERSET' | 'CLEAR' | 'CORRUPT',
    files: SimFiles,
    upstream: readonly Int32Array[],
    what: string,
    allowedBytes: number | null,
  ): Promise<void> {
    const world = this.#world;
    const hub = await durableState(world);
    let marks: FoundMarks | null = null;
    try {
      marks = await findMarks(world, files);
    } catch (fault) {
      // Files that cannot be opened start nothing: nothing is lost by it. Only damage may have done it.
      const excused = promise === 'CORRUPT' || world.excuses.stateDamaged;
      world.check('CORRUPT', excused, () => `after ${what} the agent cannot start: ${String(fault)}`);
      return;
    }
    if (marks === null) return;
    if (promise === 'SUPERSET' && allowedBytes !== null) this.#noFull(marks, allowedBytes, what);
    world.check('CLEAR', marks.durableNumber <= this.#durableNumber && marks.restsOn <= this.#durableNumber, () => {
      return `after ${what} marks rest on ${marks.restsOn}, at most ${this.#durableNumber} was ever durable`;
    });
    if (hub !== null) this.#compare(promise, marks, hub, upstream, what);
  }

  #noFull(marks: FoundMarks, allowedBytes: number, what: string): void {
    const { found, reason, markedBytes } = marks;
    this.#world.check(
      'NOFULL',
      found !== 'untrusted' && markedBytes <= allowedBytes,
      () => `after ${what} ${markedBytes} bytes are marked, at most ${allowedBytes} may be (${found}: ${reason})`,
    );
  }

  #compare(
    promise: 'SUPERSET' | 'CLEAR' | 'CORRUPT',
    marks: FoundMarks,
    hub: DurableState,
    upstream: readonly Int32Array[],
    what: string,
  ): void {
    const world = this.#world;
    const trusted = marks.found === 'clean' || marks.found === 'marked';
    // Another line, or a hub that came back older: the handshake sees it and compares everything (L2, L7, L9, L10).
    const seen = hub.line !== marks.line || hub.number < Math.max(marks.restsOn, marks.durableNumber);
    // An old copy of the agent's state: the hub refuses it (`session-back`), and only an operator can go on.
    const { owner } = hub;
    const refused = owner !== null && showsOldState(marks.session, owner.session, owner.nonce);
    if (!trusted || seen || refused || world.excuses.hubCameBackOlder > 0) return;
    for (const [volume, marked] of marks.marked.entries()) {
      const own = upstream[volume] ?? new Int32Array();
      const theirs = hub.fold[volume] ?? new Int32Array();
      for (let block = 0; block < marked.length; block += 1) {
        if (own[block] === theirs[block] || marked[block] === 1) continue;
        // The hub knows that it does not know; the operator is told, and asks for it to be read again (FAILWR).
        if (theirs[block] === UNREADABLE) continue;
        if (world.unheard.has(volume, block)) continue;
        const shows = world.contents.describe(own[block] ?? 0);
        const holds = world.contents.describe(theirs[block] ?? 0);
        const asked = world.history.tell(volume, block);
        world.check(promise, false, () =>
          [
            `after ${what} block ${volume}:${block} is not marked (${marks.found}), upstream holds ${shows},`,
            `the hub at ${hub.number} ${holds}; asked: ${asked}`,
          ].join(' '),
        );
        return;
      }
    }
    world.check(promise, true, () => '');
  }
}

/** Where the bytes of a range are not zero, in order. */
function notZero(bytes: Buffer, from: number, to: number): number[] {
  const found: number[] = [];
  for (let at = from; at < to; at += 1) if (bytes[at] !== 0) found.push(at);
  return found;
}
