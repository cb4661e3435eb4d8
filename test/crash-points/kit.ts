/**
 * A small world to crash: a real agent with its disk on one simulated host, a real hub on another, a guest, a wire that
 * is overheard. Either host loses power at a chosen change of its disk, in the very moment of it; either process can
 * be killed. What a crash leaves is judged before anything starts again.
 */
import { AGENT_DEFAULTS, type AgentConfig, AgentGroup } from '@rephub/agent';
import { HubServer, noCatalogue, openGroupStore } from '@rephub/hub';
import { type Address, asError, silentLogger } from '@rephub/platform';
import { SeededRandomness, SimClock, SimNetwork } from '@rephub/platform/sim';
import type { Beginning, Setting } from './beginning.js';
import { Guest } from './guest.js';
import { busyDisk, type Fate, Host } from './host.js';
import { HUB_EXPORTS, readReplica, testFailover } from './hub-clients.js';
import { judgeAgent, judgeHub, type JudgedVolume, upstreamOf } from './judge.js';
import { emptyPages, firstDifference, type Pages } from './pages.js';
import { Wire } from './wire.js';

const LINK: Address = { kind: 'tcp', host: '127.0.0.1', port: 9010 };
const GUEST_SOCKET = '/run/vm.sock';
/** A host that lost power is back so much later; a process that was killed too. */
const BACK_MS = 40;

/** Thrown out of what a script waits for when the agent's host, and the guest with it, has crashed. */
export class HostCrashed extends Error {
  constructor() {
    super('the agent’s host has crashed');
    this.name = 'HostCrashed';
  }
}

export class World {
  readonly clock = new SimClock();
  readonly network = new SimNetwork({ clock: this.clock });
  readonly wire: Wire;
  readonly random: SeededRandomness;
  readonly guests: Guest[] = [];
  agent: AgentGroup | null = null;
  hub: HubServer | null = null;
  /** Syncs of the hub's disk take so much longer: what it has received and what is durable there lie apart. */
  hubSyncMs = 0;
  /** Hosts that have crashed so far. */
  crashes = 0;
  /** Processes that were killed so far. */
  kills = 0;
  readonly #seed: number;
  readonly #setting: Setting;
  #volumes: readonly JudgedVolume[];
  readonly #agentHost: Host;
  readonly #hubHost: Host;
  #agentIsWanted = false;
  #hubIsWanted = false;
  #lives = 0;
  #cut: Error | null = null;
  #hadConsistent: boolean;
  /** Extents that a crash may find marked; null: any. */
  #mayBeMarked: ReadonlySet<number> | null = null;

  constructor(beginning: Beginning, seed: number) {
    const { setting, fold } = beginning;
    this.#seed = seed;
    this.random = new SeededRandomness(seed);
    this.#volumes = setting.volumes;
    this.#setting = setting;
    this.wire = new Wire(fold);
    this.#hadConsistent = fold !== null;
    const { clock, network } = this;
    this.#agentHost = new Host({
      ...{ clock, network, backMs: BACK_MS },
      files: beginning.agentDisk.imagineCrash({ seed, fate: 'keep' }, busyDisk(this.clock, seed + 1)),
      overhear: (heard) => this.wire.overhear(heard),
      killed: () => {
        this.#agentIsGone();
      },
      lostPower: () => {
        this.agent = null;
        this.#cut = new HostCrashed();
      },
    });
    this.#hubHost = new Host({
      ...{ clock, network, backMs: BACK_MS },
      files: beginning.hubDisk.imagineCrash(
        { seed, fate: 'keep' },
        busyDisk(this.clock, seed + 2, () => this.hubSyncMs),
      ),
      killed: () => {
        this.#hubIsGone();
      },
      lostPower: () => {
        this.#hubLostPower();
      },
    });
    this.guests.push(...setting.volumes.map((volume, at) => this.#guestOf(volume, beginning.upstream[at])));
  }

  get volumes(): readonly JudgedVolume[] {
    return this.#volumes;
  }

  /** The guest of the first volume. */
  get guest(): Guest {
    return this.guests[0] as Guest;
  }

  /** Runs `work` to its end. Throws HostCrashed when the agent's host goes on the way. */
  async run<T>(work: Promise<T>, limitMs = 120_000): Promise<T> {
    let isOver = false;
    const watched = work.finally(() => {
      isOver = true;
    });
    watched.catch(() => undefined);
    await this.until(() => isOver, limitMs);
    return await watched;
  }

  async until(reached: () => boolean, limitMs = 120_000): Promise<void> {
    await this.clock.runUntil(() => this.#cut !== null || reached(), limitMs);
    if (this.#cut !== null) throw this.#cut;
  }

  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
    if (this.#cut !== null) throw this.#cut;
  }

  /** In step, and everything durable at the hub. */
  async protected(): Promise<void> {
    await this.until(() => this.agent?.status().state === 'protected' && this.agent.status().lagBytes === 0);
  }

  /** Starts the agent, unless it is starting already, and waits until it is up or has gone again. */
  async startAgent(): Promise<void> {
    this.#agentIsWanted = true;
    if (!this.#agentHost.isRunning) this.#beginAgent();
    await this.until(() => this.agent !== null || !this.#agentHost.isRunning);
  }

  #beginAgent(): void {
    const { platform } = this.#agentHost.begin(this.#nextSeed());
    const config: AgentConfig = {
      ...AGENT_DEFAULTS,
      group: 'vm1',
      volumes: this.#volumes.map(({ name }) => ({ name, upstream: `file:/${name}.raw`, listen: [] })),
      listen: [`nbd+unix:///?socket=${GUEST_SOCKET}`],
      hubs: ['tcp://127.0.0.1:9010'],
      stateDirectory: '/state',
      hotExtents: 16,
      ...this.#setting.agent,
    };
    const opening = async (): Promise<void> => {
      const agent = await AgentGroup.open(platform, config, silentLogger);
      await agent.start();
      this.agent = agent;
    };
    opening().catch((thrown: unknown) => {
      this.#cut = asError(thrown);
    });
  }

  async stopAgent(): Promise<void> {
    const { agent } = this;
    this.#agentIsWanted = false;
    this.agent = null;
    let isOver = agent === null;
    agent?.stop().then(
      () => {
        isOver = true;
      },
      (thrown: unknown) => {
        this.#cut = asError(thrown);
      },
    );
    await this.until(() => isOver || !this.#agentHost.isRunning);
    this.#agentHost.kill();
  }

  /** The next start of the agent has these volumes, in this order. */
  listVolumes(names: readonly string[]): void {
    const { spare, volumes } = this.#setting;
    const all = [...volumes, ...(spare === undefined ? [] : [spare])];
    const guests = new Map(this.#volumes.map(({ name }, at) => [name, this.guests[at]]));
    this.#volumes = names.flatMap((name) => all.filter((volume) => volume.name === name));
    this.guests.splice(0, Infinity, ...this.#volumes.map((volume) => guests.get(volume.name) ?? this.#guestOf(volume)));
  }

  /** SIGKILL: what it wrote is still in the page cache, and its guest waits. Judged, and started again at once. */
  killAgent(): void {
    this.#agentHost.kill();
    this.#agentIsGone();
  }

  /** As `killAgent`, instead of its `step`-th step from now on (a timer, a completion, a chunk). */
  killAgentAtStep(step: number): void {
    this.#agentHost.killAtStep(step);
  }

  /** Nobody is killed any more. */
  sparesProcesses(): void {
    this.#agentHost.spare();
    this.#hubHost.spare();
  }

  #agentIsGone(): void {
    this.agent = null;
    this.kills += 1;
    this.#judgeAgent(false).then(
      () => {
        this.clock.after(BACK_MS, () => {
          if (this.#agentIsWanted && !this.#agentHost.isRunning) this.#beginAgent();
        });
      },
      (thrown: unknown) => {
        this.#cut = asError(thrown);
      },
    );
  }

  /** Begins to start the hub; `hub` is there once it is up. */
  startHub(): void {
    this.#hubIsWanted = true;
    if (this.#hubHost.isRunning) return;
    const { platform } = this.#hubHost.begin(this.#nextSeed());
    HubServer.open(platform, {
      directory: '/data',
      software: 'rephub at its crash points',
      storage: { retentionMs: 0, indexBytes: 1 << 20, segmentBytes: 256 * 1024 },
      openStore: openGroupStore,
      openCatalogue: () => Promise.resolve(noCatalogue()),
      listen: [LINK],
      nbd: [HUB_EXPORTS],
      insecure: false,
    }).then(
      (hub) => {
        this.hub = hub;
      },
      (thrown: unknown) => {
        this.#cut = asError(thrown);
      },
    );
  }

  async hubIsUp(): Promise<void> {
    await this.until(() => this.hub !== null);
  }

  async stopHub(): Promise<void> {
    const { hub } = this;
    this.#hubIsWanted = false;
    this.hub = null;
    let isOver = hub === null;
    hub?.close({ drain: false, graceMs: 500 }).then(
      () => {
        isOver = true;
      },
      (thrown: unknown) => {
        this.#cut = asError(thrown);
      },
    );
    // Gone on the way: it is down all the same.
    await this.until(() => isOver || !this.#hubHost.isRunning);
    this.#hubHost.kill();
  }

  /** SIGKILL; it is started again at once. */
  killHub(): void {
    this.#hubHost.kill();
    this.#hubIsGone();
  }

  /** As `killHub`, instead of its `step`-th step from now on. */
  killHubAtStep(step: number): void {
    this.#hubHost.killAtStep(step);
  }

  #hubIsGone(): void {
    this.hub = null;
    this.kills += 1;
    this.#hubComesBack();
  }

  #hubComesBack(): void {
    this.clock.after(BACK_MS, () => {
      if (this.#hubIsWanted) this.startHub();
    });
  }

  /** Opens a branch, writes to it, looks at it, drops it: what failover-test does with a check. */
  failoverTest(): { readonly isOver: boolean } {
    const state = { isOver: false };
    const { hub } = this;
    testFailover(this, hub)
      .catch((thrown: unknown) => {
        // A hub that has gone takes its tests along.
        if (this.hub === hub) this.#cut = asError(thrown);
      })
      .finally(() => {
        state.isOver = true;
      })
      .catch(() => undefined);
    return state;
  }

  /** The operator's word: everything is copied again. */
  resync(): void {
    this.agent?.resync(true).catch((thrown: unknown) => {
      this.#cut = asError(thrown);
    });
  }

  cutLink(): void {
    for (const link of this.network.links(LINK)) link.cut();
  }

  silenceHub(silent: boolean): void {
    this.network.setSilent(LINK, silent);
  }

  /** NOFULL: from now on only these extents of 4 MiB of the first volume, and what other volumes hold, may be marked by a crash. */
  expectMarksOnlyIn(extents: ReadonlySet<number>): void {
    this.#mayBeMarked = extents;
  }

  /** The agent's host loses power at the `change`-th change of its disk from now on (1 = the next one). */
  crashAgentHostAt(change: number, fate: Fate): void {
    this.#agentHost.crashAt(change, () => this.#crashSeed(), fate);
  }

  /** The hub's host loses power at the `change`-th change of its disk from now on, and comes back by itself. */
  crashHubHostAt(change: number, fate: Fate): void {
    this.#hubHost.crashAt(change, () => this.#crashSeed(), fate);
  }

  crashHubHost(fate: Fate): void {
    this.#hubHost.losePower(this.#crashSeed(), fate);
  }

  #hubLostPower(): void {
    this.hub = null;
    judgeHub(this.#hubHost.files, this.wire, this.#hadConsistent).then(
      () => this.#hubComesBack(),
      (thrown: unknown) => {
        this.#cut = asError(thrown);
      },
    );
  }

  #crashSeed(): number {
    this.crashes += 1;
    return this.#seed + this.crashes;
  }

  /** After the agent, or its host, has gone: judged, and started again. */
  async recover(): Promise<void> {
    if (this.#cut !== null) {
      if (!(this.#cut instanceof HostCrashed)) throw this.#cut;
      this.#cut = null;
      await this.#judgeAgent(true);
      // The guest went with its host; the next one finds what is there.
      const upstream = upstreamOf(this.#agentHost.files, this.#volumes);
      for (const [index, pages] of upstream.entries()) this.guests[index]?.accept(pages);
    }
    if (!this.#hubIsWanted) this.#hubHost.kill();
    this.startHub();
    await this.startAgent();
  }

  /** Everything is up and in step, and the replica, read as others read it, is what upstream holds. */
  async converge(): Promise<void> {
    this.silenceHub(false);
    this.startHub();
    await this.startAgent();
    await this.protected();
    await this.hubIsUp();
    const upstream = upstreamOf(this.#agentHost.files, this.#volumes);
    for (const [index, { name }] of this.#volumes.entries()) {
      const missing = this.guests[index]?.missing(upstream[index] ?? emptyPages(0), false) ?? null;
      if (missing !== null) throw new Error(`GUEST: ${missing} of ${name} is not what the guest wrote`);
      const replica = await this.#replica(name);
      const found = firstDifference(upstream[index] ?? emptyPages(0), replica);
      if (found !== null) throw new Error(`the replica of ${name} differs from upstream after all is healed: ${found}`);
    }
    if ((this.agent?.status().dirtyBytes ?? 0) > 0) throw new Error('protected, and blocks are dirty');
    this.#hadConsistent = true;
  }

  /** Asked again of the next hub when this one goes meanwhile: the crash may come as late as that. */
  async #replica(name: string): Promise<Pages> {
    for (;;) {
      await this.hubIsUp();
      const { hub } = this;
      try {
        return await this.run(readReplica(this, name));
      } catch (fault) {
        if (this.hub === hub) throw fault;
      }
    }
  }

  /** This world's disks as the beginning of others; agent and hub are stopped. */
  async asBeginning(): Promise<Beginning> {
    await this.stopAgent();
    await this.stopHub();
    const finding = await judgeHub(this.#hubHost.files, this.wire, this.#hadConsistent);
    const fold = finding === null ? null : { last: finding.last, volumes: this.wire.foldAt(finding.last) };
    return {
      setting: this.#setting,
      agentDisk: this.#agentHost.files.imagineCrash({ seed: 1, fate: 'keep' }),
      hubDisk: this.#hubHost.files.imagineCrash({ seed: 1, fate: 'keep' }),
      fold,
      upstream: upstreamOf(this.#agentHost.files, this.#volumes),
    };
  }

  async #judgeAgent(afterPowerCut: boolean): Promise<void> {
    await judgeAgent({
      files: this.#agentHost.files,
      hubFiles: this.#hubHost.files,
      volumes: this.#volumes,
      guests: this.guests,
      wire: this.wire,
      afterPowerCut,
      hadConsistent: this.#hadConsistent,
      mayBeMarked: this.#mayBeMarked,
    });
  }

  #guestOf({ name, sizeBytes }: JudgedVolume, holds: Pages = emptyPages(sizeBytes)): Guest {
    return new Guest(this, `nbd+unix:///${name}?socket=${GUEST_SOCKET}`, holds);
  }

  #nextSeed(): number {
    this.#lives += 1;
    return this.#seed * 1000 + this.#lives;
  }
}
