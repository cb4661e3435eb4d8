/**
 * What goes over the link: LINEAGE (no number twice, nothing to do only when nothing differs), SPAN (begins after every gap,
 * ends only when nothing is dirty), BOUND (the window keeps its limit), BEAT (a silent hub is found out, one that is away is
 * not stormed), FRAME (damage ends the session, and nothing else), SIZE (another disk is not written to).
 */
import { upstreamContents } from '../disk-contents.js';
import {
  DEFAULT_HEARTBEAT_MS,
  DEFAULT_TIMEOUT_MS,
  FrameType,
  type Hello,
  type Verdict,
  type Welcome,
} from '@rephub/protocol';
import { type LogFields } from '@rephub/platform';
import { UNREADABLE } from '../block-content.js';
import { TRUE_DISK } from '../processes.js';
import { type WireRecord } from '../wire-records.js';
import { type World } from '../world.js';
import { type Checker, type Crash } from './checker.js';

/** Verdicts that believe what the agent's marks do not say. */
const TRUSTING: readonly Verdict['kind'][] = ['nothing-to-do', 'resume', 'resync-by-bitmap'];
/** A record larger than the window is taken when the window is empty. */
const LARGEST_RECORD_BYTES = 1024 * 1024 + 4096;

/** The wait before the next attempt doubles, and only a session that lasted longer than this makes it short again. */
const ATTEMPTS_WITHIN_MS = 10_000;
const MOST_ATTEMPTS = 25;

export class Stream implements Checker {
  readonly #world: World;
  #lastNumber = 0;
  #lastChecksum = 0;
  #heardMs = 0;
  /** When this agent has last tried to reach the hub. */
  #dialledMs: number[] = [];
  readonly #spoiled = new Map<number, number>();
  #agentUpMs = 0;
  #agentStarts = 0;
  #wrongDisk: Map<string, number> | null = null;
  #wrongSinceMs = 0;
  /** When the stream was last left. */
  #gapMs = -1;

  constructor(world: World) {
    this.#world = world;
  }

  logged(event: string, { to, why }: LogFields): void {
    if (event === 'stream-state' && to === 'gap') this.#gapMs = this.#world.nowMs;
    if (event !== 'stream-state' || to !== 'streaming') return;
    const dirty = this.#world.agent.up?.status().dirtyBytes ?? 0;
    this.#world.check('SPAN', dirty === 0, () => `streaming goes on (${String(why)}) while ${dirty} bytes are dirty`);
  }

  crashed({ who }: Crash): void {
    if (who === 'agent') this.#dialledMs = [];
  }

  dialled(): void {
    const { nowMs } = this.#world;
    this.#dialledMs = [...this.#dialledMs.filter((atMs) => atMs > nowMs - ATTEMPTS_WITHIN_MS), nowMs];
    const times = this.#dialledMs.length;
    this.#world.check('BEAT', times <= MOST_ATTEMPTS, () => {
      return `the agent has tried ${times} times within ${ATTEMPTS_WITHIN_MS} ms to reach the hub`;
    });
  }

  agentHeard(): void {
    this.#heardMs = this.#world.nowMs;
  }

  spoiled(link: number): void {
    this.#spoiled.set(link, this.#world.nowMs);
  }

  linkClosed(link: number): void {
    if (!this.#spoiled.delete(link)) return;
    this.#world.check('FRAME', true, () => '');
  }

  sent(record: WireRecord, agentTimeUs: number): void {
    const world = this.#world;
    const [namesake] = world.records.namesakes(record);
    world.check('LINEAGE', namesake === undefined || world.excuses.groupBegunAnew > 0, () => {
      return `number ${record.number} is given twice: to types ${record.type} and ${namesake?.type ?? 0}`;
    });
    const follows = record.number === this.#lastNumber + 1 && record.previous === this.#lastChecksum;
    world.check('SPAN', follows || record.type === FrameType.SpanBegin || record.number === 1, () => {
      return `record ${record.number} of type ${record.type} follows ${this.#lastNumber} without a span's begin`;
    });
    this.#lastNumber = record.number;
    this.#lastChecksum = record.checksum;
    const isFresh = Math.abs(agentTimeUs / 1000 - world.clock.unixMs()) < 0.01;
    // Only a record that leaves in the moment in which it is made says something of the state of that moment, unless that is
    // the moment of the next gap too.
    if (record.type === FrameType.SpanEnd && isFresh && this.#gapMs !== world.nowMs) {
      const dirty = world.agent.up?.status().dirtyBytes ?? 0;
      world.check('SPAN', dirty === 0, () => `the span ends at ${record.number} while ${dirty} bytes are dirty`);
    }
  }

  verdict(verdict: Verdict, hello: Hello, { group }: Welcome): void {
    const world = this.#world;
    const { store } = world;
    const isOlder = group !== null && group.owner === hello.agentId && group.lastNumber < hello.restsOn;
    world.check('LINEAGE', !isOlder || !TRUSTING.includes(verdict.kind), () => {
      return `${verdict.row}: cleared marks rest on ${hello.restsOn}, the hub ends at ${group?.lastNumber ?? 0}`;
    });
    if (verdict.kind !== 'nothing-to-do' || store === null) return;
    const { lastNumber, lastChecksum } = store.state;
    const fold = world.records.foldAt(lastNumber, lastNumber, lastChecksum);
    if (fold === null) return;
    const upstream = upstreamContents(world);
    for (const { index } of hello.volumes) {
      for (const [block, content] of (upstream[index] ?? []).entries()) {
        const theirs = fold[index]?.[block] ?? 0;
        if (content === theirs || theirs === UNREADABLE) continue;
        // The copier read it before the disk lost it; the guest's flush has failed, and nobody can know more (docs/design.md).
        if (world.history.wasGivenUp(index, block, theirs)) continue;
        // What the guest has done since the agent is up is in its window, or marked.
        const since = world.history.last(index, block);
        if (since !== null && since.submittedMs >= this.#agentUpMs) continue;
        world.check('LINEAGE', false, () => {
          return `${verdict.row} although block ${index}:${block} differs; asked: ${world.history.tell(index, block)}`;
        });
        return;
      }
    }
    world.check('LINEAGE', true, () => '');
  }

  moment(): void {
    const world = this.#world;
    const { agent, hub, upstream, setup, nowMs } = world;
    if (agent.starts !== this.#agentStarts) {
      this.#agentStarts = agent.starts;
      this.#agentUpMs = nowMs - 200;
      this.#heardMs = nowMs;
    }
    this.#rightDisk(upstream.presented === TRUE_DISK);
    if (agent.up === null || agent.isStopped) {
      this.#heardMs = nowMs;
      return;
    }
    const { windowBytes, agentConnected } = agent.up.status();
    world.check('BOUND', windowBytes <= Math.max(setup.windowBytes, LARGEST_RECORD_BYTES), () => {
      return `the window holds ${windowBytes} bytes, its limit is ${setup.windowBytes}`;
    });
    const silentMs = nowMs - this.#heardMs;
    world.check('BEAT', !agentConnected || silentMs <= DEFAULT_TIMEOUT_MS + DEFAULT_HEARTBEAT_MS, () => {
      return `the hub has been silent for ${silentMs} ms, and counts as connected`;
    });
    for (const [link, sinceMs] of this.#spoiled) {
      if (hub.isStopped) this.#spoiled.set(link, nowMs);
      const late = nowMs - sinceMs > 2 * DEFAULT_TIMEOUT_MS;
      world.check('FRAME', !late, () => `link ${link} goes on after a bit was flipped ${nowMs - sinceMs} ms ago`);
    }
  }

  /** While upstream shows itself as another disk nothing may be changed on it. */
  #rightDisk(isRight: boolean): void {
    const world = this.#world;
    if (isRight) {
      this.#wrongDisk = null;
      return;
    }
    const { agent, upstream } = world;
    const before = this.#wrongDisk;
    if (before === null) this.#wrongSinceMs = world.nowMs;
    // One that is smaller than the marks say is refused from the start (LINEAGE has no row for it: it comes to no hub).
    if (upstream.presented.sizeBytes !== null && agent.startedMs > this.#wrongSinceMs && world.knowsItsDisks) {
      world.check('SIZE', agent.up === null, () => 'an agent has started on a disk that is smaller than its own');
      world.coverage.happened('refused-at-start');
    }
    this.#wrongDisk = new Map([...world.disks].map(([name, disk]) => [name, disk.changes]));
    for (const [name, changes] of before ?? []) {
      const now = world.disks.get(name)?.changes ?? 0;
      world.check('SIZE', now === changes, () => `upstream ${name} came back as another disk and was written to`);
    }
  }
}
