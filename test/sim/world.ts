/**
 * A whole system in one thread and virtual time: agent, hub, upstream, guests, network, and the promises that are checked while
 * it runs. The script says what is done to it (faults/), the checkers what must hold (promises/).
 *
 * Always holds: one seed decides everything; the first violation ends the run.
 */
import { AGENT_DEFAULTS, type AgentConfig, type AgentGroup } from '@rephub/agent';
import { type Group, type HubServer } from '@rephub/hub';
import { asError, type LogFields, type Logger } from '@rephub/platform';
import {
  type CrashFate,
  type FaultRule,
  type InjectedFault,
  SeededRandomness,
  SimClock,
  SimFiles,
  SimNetwork,
  simPlatform,
  type SimProcess,
} from '@rephub/platform/sim';
import { type GroupStore } from './hub-types.js';
import { BLOCK_BYTES, BlockContents } from './block-content.js';
import { Coverage } from './coverage.js';
import { noExcuses } from './excuses.js';
import { History, type Operation } from './history.js';
import {
  AgentProcess,
  GUESTS,
  HubProcess,
  LINK,
  type Surroundings,
  TRUE_DISK,
  UPSTREAM,
  UpstreamProcess,
} from './processes.js';
import { type Setup } from './script.js';
import { SimDisk } from './sim-disk.js';
import { Trace } from './trace.js';
import { UnseenRot } from './unseen-rot.js';
import { WireRecords } from './wire-records.js';
import { WireTap } from './wire-tap.js';
import { listenToWire } from './wire-events.js';
import { Guests } from './workload.js';
import { type Checker, type Crash, makeCheckers, type PromiseId, Unheard } from './promises/index.js';

const GROUP = 'vm1';

/** A promise that was broken. */
export class Violation extends Error {
  readonly promise: PromiseId;

  constructor(promise: PromiseId, message: string) {
    super(`${promise}: ${message}`);
    this.name = 'Violation';
    this.promise = promise;
  }
}

export class World {
  readonly setup: Setup;
  readonly clock = new SimClock();
  readonly network: SimNetwork;
  readonly trace: Trace;
  readonly coverage = new Coverage();
  readonly contents = new BlockContents();
  readonly history: History;
  readonly records: WireRecords;
  /** Starts of the agent when a block of its identity went bad: the next start makes both copies anew. */
  identityRotted = -1;
  readonly disks = new Map<string, SimDisk>();
  readonly agent: AgentProcess;
  readonly hub: HubProcess;
  readonly upstream: UpstreamProcess;
  readonly guests: Guests;
  readonly tap: WireTap;
  readonly checkers: readonly Checker[];
  readonly unheard: Unheard;
  readonly excuses = noExcuses();
  readonly unseenRot = new UnseenRot(this);
  violation: Violation | null = null;
  /** The simulator itself has failed. */
  error: Error | null = null;
  #injected: { readonly injected: InjectedFault; readonly struck: () => void }[] = [];
  /** Per volume: the sizes that its upstream has had, in blocks, the newest last. */
  readonly #sizes: number[][];
  /** Where the guest has been at work last. */
  lastBurst: { readonly volume: number; readonly firstBlock: number } | null = null;
  /** Volumes that the agent is told of. */
  volumeCount: number;
  /** Faults are over: everything must come right. */
  healing = false;
  /** An answer may wait for the hub: by its mode, or while it is away. */
  answersWait: boolean;
  /** Upstream is about to show itself as another disk. */
  isDiskChanging = false;
  /** Another agent that is here for the same group. */
  stranger: SimProcess | null = null;
  /** The hub lets in who comes first after this agent. */
  enrolledAfter: string | null = null;
  /** The operator has told a refused agent to go on once. */
  hasResumed = false;

  constructor(setup: Setup, print: ((line: string) => void) | null = null) {
    const { seed, volumes } = setup;
    this.setup = setup;
    this.trace = new Trace(() => this.clock.monotonicMs(), print);
    const blocksOf = volumes.map(({ largestBlocks }) => largestBlocks);
    this.#sizes = volumes.map(({ blocks }) => [blocks]);
    this.history = new History(this.contents, blocksOf);
    this.records = new WireRecords(this.contents, blocksOf);
    this.network = new SimNetwork({ clock: this.clock });
    this.network.conditionsOf(LINK).latencyMs = setup.linkLatencyMs;
    this.#makeJitter(setup.jitterMs);
    this.answersWait = setup.mode !== 'async' || setup.onDisconnect === 'freeze';
    this.volumeCount = setup.lateVolume ? 1 : volumes.length;
    const around: Surroundings = {
      seed,
      clock: this.clock,
      network: this.network,
      tell: (what) => this.trace.add(what),
    };
    for (const [index, { name, blocks, largestBlocks, upstream }] of volumes.entries()) {
      if (upstream !== 'nbd') continue;
      const abilities = {
        fua: setup.fua,
        fastZero: setup.fastZero,
        contexts: setup.allocation ? ['base:allocation'] : [],
      };
      const [sizeBytes, largestBytes] = [blocks * BLOCK_BYTES, largestBlocks * BLOCK_BYTES];
      const disk = new SimDisk(this.clock, this.random(100 + index), sizeBytes, abilities, largestBytes);
      disk.syncMs = setup.syncMs ?? 0;
      disk.onDropped = (offset, length) => {
        const first = Math.floor(offset / BLOCK_BYTES);
        const blocks = Math.ceil((offset + length) / BLOCK_BYTES) - first;
        this.trace.add(`upstream gives up ${index}:${first}+${blocks}`);
        for (const checker of this.checkers) checker.dropped?.(index, first, blocks);
      };
      this.disks.set(name, disk);
    }
    this.unheard = new Unheard(this);
    this.checkers = makeCheckers(this);
    this.tap = new WireTap(listenToWire(this), LINK);
    this.agent = new AgentProcess(around, this.#slowDisk(1, 0), () => this.#config(), this.#log('agent'), this.tap);
    this.hub = new HubProcess(
      around,
      this.#slowDisk(2, setup.hubSyncMs ?? 0),
      { retentionMs: setup.retentionMs, segmentBytes: setup.segmentBytes, indexBytes: 64 << 20 },
      this.tap,
    );
    this.upstream = new UpstreamProcess(around, this.disks);
    const host = simPlatform(seed, { clock: this.clock, network: this.network });
    this.guests = new Guests({
      platform: () => host,
      contents: this.contents,
      history: this.history,
      volumes,
      answered: (answer) => {
        const { command, volume, block, blocks, error, operation } = answer;
        this.trace.add(`guest ${command} ${volume}:${block}+${blocks} ${operation?.id ?? ''} → ${error}`);
        for (const checker of this.checkers) checker.answered?.(answer);
      },
      tell: (what) => this.trace.add(what),
    });
  }

  /** Randomness of its own for each purpose, so that one does not disturb another. */
  random(purpose: number): SeededRandomness {
    return new SeededRandomness(Math.imul(this.setup.seed + 1, 0x85eb_ca6b) ^ Math.imul(purpose + 1, 0xc2b2_ae35));
  }

  get nowMs(): number {
    return this.clock.monotonicMs();
  }

  get agentGroup(): AgentGroup | null {
    return this.agent.up;
  }

  get hubServer(): HubServer | null {
    return this.hub.up;
  }

  /** The group at the hub; null while there is none. */
  get group(): Group | null {
    return this.hub.up?.hub.groups.find(({ name }) => name === GROUP) ?? null;
  }

  get store(): GroupStore | null {
    return this.group?.store ?? null;
  }

  /** So large its upstream is now. */
  blocksOf(volume: number): number {
    return this.#sizes[volume]?.at(-1) ?? 0;
  }

  /** It is so large, or has been. */
  hasHadSize(volume: number, blocks: number): boolean {
    return this.#sizes[volume]?.includes(blocks) ?? false;
  }

  /** Upstream shows itself as another disk, or is about to. */
  get isAnotherDisk(): boolean {
    return this.isDiskChanging || this.upstream.presented !== TRUE_DISK;
  }

  /** The agent's state is sure to say of all volumes how large they are. */
  get knowsItsDisks(): boolean {
    const { stateDamaged, groupBegunAnew } = this.excuses;
    const isKnown = (this.store?.state.owner ?? null) !== null;
    return isKnown && !stateDamaged && groupBegunAnew === 0 && !this.setup.lateVolume;
  }

  /** Somebody makes a volume's upstream larger, for good. */
  grow(volume: number, blocks: number): void {
    const { name } = this.setup.volumes[volume] ?? { name: '' };
    this.#sizes[volume]?.push(blocks);
    this.trace.add(`upstream ${name} has ${blocks} blocks`);
    const disk = this.disks.get(name);
    if (disk === undefined) this.agent.files.extend(`/${name}.raw`, blocks * BLOCK_BYTES);
    else disk.sizeBytes = blocks * BLOCK_BYTES;
  }

  /** Makes operations of that host's disk fail, until all is healed; then it is told if any has. */
  inject(host: 'agent' | 'hub', rule: FaultRule, struck: () => void): InjectedFault {
    const injected = this[host].files.inject(rule);
    this.#injected.push({ injected, struck });
    return injected;
  }

  /** No operation fails any more. */
  removeFaults(): void {
    for (const { injected, struck } of this.#injected) {
      injected.remove();
      if (injected.hits > 0) struck();
    }
    this.#injected = [];
  }

  /** All that the hub had of the group is gone. */
  forgetGroup(): void {
    this.excuses.groupBegunAnew += 1;
    this.excuses.dataForgotten += 1;
    this.excuses.exposureUnknown = true;
  }

  /** Requests should not wait any more; looks again later when something is still away. */
  calm(): void {
    const { agent, upstream, disks } = this;
    const away = disks.size > 0 && (upstream.up === null || upstream.isStopped || upstream.presented !== TRUE_DISK);
    const fails = [...disks.values()].some(({ isFaulty }) => isFaulty);
    if (agent.up === null || agent.isStopped || away || fails) this.clock.after(1000, () => this.calm());
    else this.excuses.requestsWait = false;
  }

  /** The agent that is there can play it again. */
  isAtHand({ submittedMs }: Operation): boolean {
    return this.setup.replayBytes !== 0 && submittedMs >= this.agent.startedMs;
  }

  /** So that what one connection brings overtakes what another one does. */
  #makeJitter(linkMs: number): void {
    if (linkMs === 0) return;
    this.coverage.happened('jitter');
    const random = this.random(4);
    const places = [[LINK, linkMs] as const, [UPSTREAM, linkMs / 10] as const, [GUESTS, linkMs / 10] as const];
    for (const [address, mostMs] of places) {
      this.network.conditionsOf(address).jitterMs = () => (random.below(1000) / 1000) * mostMs;
    }
  }

  /** The link is as it was set up. */
  calmLink(): void {
    const conditions = this.network.conditionsOf(LINK);
    conditions.latencyMs = this.setup.linkLatencyMs;
    conditions.bytesPerMs = Infinity;
    conditions.fragmentBytes = () => Infinity;
  }

  /** Counts a check, and notes the first that fails. */
  check(promise: PromiseId, holds: boolean, message: () => string): void {
    this.coverage.checked(promise);
    if (holds || this.violation !== null) return;
    this.violation = new Violation(promise, message());
    this.trace.add(`VIOLATION ${this.violation.message}`);
  }

  /** Puts something on the disks, and starts everything. */
  async begin(): Promise<void> {
    const random = this.random(3);
    for (const [index, { name, blocks, upstream }] of this.setup.volumes.entries()) {
      const image = upstream === 'file' ? Buffer.alloc(blocks * BLOCK_BYTES) : null;
      for (let preset = 0; preset < this.setup.presetBlocks; preset += 1) {
        const block = random.below(blocks);
        const what = { kind: 'write', client: 0, volume: index, block, blocks: 1, fua: true } as const;
        const operation = this.history.submit(what, 0);
        this.history.end(operation, true, 0);
        const bytes = image?.subarray(block * BLOCK_BYTES) ?? Buffer.alloc(BLOCK_BYTES);
        this.contents.fill(bytes, 0, { operation: operation.id, writer: 0, epoch: 0, volume: index, block });
        if (image === null) this.disks.get(name)?.preset(block * BLOCK_BYTES, bytes);
      }
      if (image !== null) await this.#makeFile(name, image);
    }
    this.upstream.start();
    this.hub.start();
    this.agent.start();
  }

  async #makeFile(name: string, image: Buffer): Promise<void> {
    // Holes stay holes: what the file system does not hold is found by the copier.
    const make = async (): Promise<void> => {
      const file = await this.agent.files.open(`/${name}.raw`, 'create-new');
      await file.truncate(image.length);
      for (let at = 0; at < image.length; at += BLOCK_BYTES) {
        const block = image.subarray(at, at + BLOCK_BYTES);
        if (block.readUInt32LE(0) !== 0) await file.write([block], at);
      }
      await file.sync();
      await file.close();
      await this.agent.files.syncDirectory('/');
    };
    let made = false;
    void make().then(() => (made = true));
    await this.clock.runUntil(() => made, 60_000);
  }

  /** The time goes on; stops early at a violation. Returns false then. */
  async advanceTo(untilMs: number): Promise<boolean> {
    while (this.violation === null && this.nowMs < untilMs) {
      await this.clock.advance(Math.min(50, untilMs - this.nowMs));
    }
    return this.violation === null;
  }

  /** Runs `work` to its end, moving the time on for it; null when it takes too long, or fails. */
  async settle<T>(work: Promise<T>, limitMs: number): Promise<T | null> {
    const outcome: { value: T | null; over: boolean } = { value: null, over: false };
    work.then(
      (value) => {
        outcome.value = value;
        outcome.over = true;
      },
      (thrown: unknown) => {
        this.trace.add(`failed: ${asError(thrown).message}`);
        outcome.over = true;
      },
    );
    const untilMs = this.nowMs + limitMs;
    while (!outcome.over && this.nowMs < untilMs && this.violation === null) await this.clock.advance(1);
    return outcome.value;
  }

  // Crashes ------------------------------------------------------------------------------------------

  /** `keep`: kill -9. Else the agent's host loses power, with the disks that are files there, and the guests. */
  crashAgent(fate: CrashFate): void {
    this.agent.kill(fate);
    if (fate !== 'keep') this.guests.epoch += 1;
    this.agentIsGone(fate);
  }

  /** Killed, or at the end of an orderly end: what only the process knew is lost. */
  agentIsGone(fate: CrashFate): void {
    this.guests.forget(null);
    this.#crashed({ who: 'agent', fate });
  }

  crashHub(fate: CrashFate): void {
    this.hub.kill(fate);
    this.coverage.happened(`catalogue-${this.hub.catalogue.died()}`);
    this.unseenRot.isFound();
    this.#crashed({ who: 'hub', fate });
  }

  crashUpstream(fate: CrashFate): void {
    this.upstream.kill('keep');
    for (const disk of this.disks.values()) disk.crash(fate);
    this.#crashed({ who: 'upstream', fate });
  }

  #crashed(crash: Crash): void {
    this.unheard.crashed(crash);
    for (const checker of this.checkers) checker.crashed?.(crash);
  }

  #config(): AgentConfig {
    const { setup } = this;
    return {
      ...AGENT_DEFAULTS,
      group: GROUP,
      volumes: setup.volumes.slice(0, this.volumeCount).map(({ name, upstream }) => ({
        name,
        upstream:
          upstream === 'file'
            ? `file:/${name}.raw`
            : `nbd://127.0.0.1:${UPSTREAM.kind === 'tcp' ? UPSTREAM.port : 0}/${name}`,
        listen: [],
      })),
      listen: [`nbd+unix:///?socket=${GUESTS.kind === 'unix' ? GUESTS.path : ''}`],
      hubs: ['tcp://127.0.0.1:9010'],
      stateDirectory: '/state',
      onCongestion: setup.onCongestion,
      mode: setup.mode,
      onDisconnect: setup.onDisconnect,
      hotExtents: setup.hotExtents,
      durability: setup.durability,
      granularityBytes: setup.granularityBytes,
      windowBytes: setup.windowBytes,
      compress: setup.compress ?? 'auto',
      maxBytesPerSecond: setup.maxBytesPerSecond,
      retries: Infinity,
      retryDelayMs: 100,
      requestTimeoutMs: 4000,
      ...(setup.replayBytes === undefined ? {} : { replayBytes: setup.replayBytes }),
    };
  }

  /** A disk whose operations take from 20 µs to 1 ms, syncs up to 5 ms and `syncMs`: crashes find every step half done. */
  #slowDisk(purpose: number, syncMs: number): SimFiles {
    const random = this.random(10 + purpose);
    return new SimFiles({
      clock: this.clock,
      seed: this.setup.seed + purpose,
      lateChance: 0.3,
      delayMs: (operation) =>
        operation === 'sync'
          ? (this.healing ? 0 : syncMs) + 0.02 + random.fraction() ** 4 * 5
          : 0.02 + random.fraction() ** 4,
    });
  }

  #log(who: string): Logger {
    const at = (event: string, fields: LogFields = {}): void => {
      this.trace.add(`${who}: ${event} ${JSON.stringify(fields)}`);
      this.coverage.event(event, fields);
      if (event === 'upstream-keeps-nothing') this.excuses.unreadable = true;
      // Some of the guests look at their disk again.
      if (event === 'volume-grown') this.guests.forget(1);
      this.unheard.logged(event, fields);
      for (const checker of this.checkers) checker.logged?.(event, fields);
    };
    return { debug: () => undefined, info: at, warn: at, error: at };
  }
}
