/**
 * A whole system in one thread and virtual time: a real agent, a real hub and a guest on simulated disks
 * and a simulated network. One seed decides the run.
 *
 * Must not know: what a test wants to show.
 */
import { AGENT_DEFAULTS, type AgentConfig, AgentGroup } from '@rephub/agent';
import { HubServer, noCatalogue, openGroupStore } from '@rephub/hub';
import { connectNbd, flushDevice, type NbdClient, readBytes, trimRange, writeBytes, zeroRange } from '@rephub/nbd';
import { type Address, type Logger, silentLogger, sleep } from '@rephub/platform';
import {
  type CrashFate,
  SeededRandomness,
  SimClock,
  SimFiles,
  SimNetwork,
  simPlatform,
  type SimPlatform,
  SimProcess,
} from '@rephub/platform/sim';

export const BLOCK = 4096;
const READ_BYTES = 4 * 1024 * 1024;
const LINK: Address = { kind: 'tcp', host: '127.0.0.1', port: 9010 };
const EXPORTS = { kind: 'unix', path: '/run/hub.sock' } as const;

export interface ClusterOptions {
  readonly seed: number;
  readonly diskBytes: number;
  readonly agent?: Partial<AgentConfig>;
  readonly retentionMs?: number;
  /** False: the hub's host has none, from its next start on. */
  readonly hubCodecs?: boolean;
  readonly volumes?: readonly string[];
  /** One way, between agent and hub; 0.1 ms when left out. */
  readonly linkLatencyMs?: number;
  /** Another cluster's time and network, to meet its hub. */
  readonly world?: Cluster;
  /** Where this cluster's guest connects; one for each cluster of a world. */
  readonly guestSocket?: string;
  /** The agent's log; silent when left out. */
  readonly log?: Logger;
}

export class Cluster {
  agentHost: SimPlatform;
  readonly random: SeededRandomness;
  options: ClusterOptions;
  hubFiles: SimFiles;
  hub: HubServer | null = null;
  agent: AgentGroup | null = null;
  #agentProcess: SimProcess | null = null;
  #hubProcess: SimProcess | null = null;
  #lives = 0;
  /** Guest operations answered so far. */
  answered = 0;
  #guests = new Map<string, NbdClient>();

  constructor(options: ClusterOptions) {
    this.options = options;
    const { world } = options;
    const clock = world?.clock ?? new SimClock();
    const network = world?.agentHost.network ?? new SimNetwork({ clock });
    this.random = new SeededRandomness(options.seed + 1);
    this.agentHost = simPlatform(options.seed, { clock, network, files: slowDisk(clock, options.seed + 2) });
    this.hubFiles = slowDisk(clock, options.seed + 3);
    if (options.linkLatencyMs !== undefined) network.conditionsOf(LINK).latencyMs = options.linkLatencyMs;
  }

  get #shared(): Pick<SimPlatform, 'clock' | 'network'> {
    return { clock: this.agentHost.clock, network: this.agentHost.network };
  }

  get clock(): SimPlatform['clock'] {
    return this.agentHost.clock;
  }

  get #guestSocket(): string {
    return this.options.guestSocket ?? '/run/vm.sock';
  }

  get volumes(): readonly string[] {
    return this.options.volumes ?? ['disk0'];
  }

  /** Runs `work` to its end, moving the time on for it. */
  async run<T>(work: Promise<T>, limitMs = 120_000): Promise<T> {
    let over = false;
    const watched = work.finally(() => {
      over = true;
    });
    watched.catch(() => undefined);
    await this.clock.runUntil(() => over, limitMs);
    return await watched;
  }

  async makeDisks(): Promise<void> {
    await this.run(this.#makeDisks());
  }

  async #makeDisks(): Promise<void> {
    for (const name of this.volumes) {
      const file = await this.agentHost.files.open(`/${name}.raw`, 'create-new');
      await file.truncate(this.options.diskBytes);
      await file.sync();
      await file.close();
    }
    await this.agentHost.files.syncDirectory('/');
  }

  async startHub(): Promise<void> {
    this.#lives++;
    const host = simPlatform(this.options.seed + 1000 * this.#lives, { ...this.#shared, files: this.hubFiles });
    this.#hubProcess = new SimProcess(this.options.hubCodecs === false ? { ...host, codecs: [] } : host);
    this.hub = await this.run(
      HubServer.open(this.#hubProcess.platform, {
        directory: '/data',
        software: 'rephub under simulation',
        storage: { retentionMs: this.options.retentionMs ?? 0, indexBytes: 64 << 20 },
        openStore: openGroupStore,
        openCatalogue: () => Promise.resolve(noCatalogue()),
        listen: [LINK],
        nbd: [EXPORTS],
        insecure: false,
      }),
    );
  }

  async stopHub(drain: boolean): Promise<void> {
    const hub = this.hub;
    this.hub = null;
    if (hub !== null) await this.run(hub.close({ drain, graceMs: 1000 }));
  }

  async startAgent(): Promise<void> {
    const config: AgentConfig = {
      ...AGENT_DEFAULTS,
      group: 'vm1',
      volumes: this.volumes.map((name) => ({ name, upstream: `file:/${name}.raw`, listen: [] })),
      listen: [`nbd+unix:///?socket=${this.#guestSocket}`],
      hubs: ['tcp://127.0.0.1:9010'],
      stateDirectory: '/state',
      ...this.options.agent,
    };
    this.#agentProcess = new SimProcess(this.agentHost);
    this.agent = await this.run(AgentGroup.open(this.#agentProcess.platform, config, this.options.log ?? silentLogger));
    await this.run(this.agent.start());
  }

  async stopAgent(): Promise<boolean> {
    const agent = this.agent;
    this.agent = null;
    this.#guests.clear();
    return agent === null ? true : await this.run(agent.stop());
  }

  /** The hub's process dies, or with a `fate` other than `keep` its host loses power. */
  killHub(fate: CrashFate): void {
    this.#hubProcess?.kill();
    this.hub = null;
    this.hubFiles = afterDeath(this.hubFiles, fate, this.options.seed + this.#lives);
  }

  /** The agent's process dies, or its host loses power with the disk; its guest sees its connections end. */
  killAgent(fate: CrashFate): void {
    this.#agentProcess?.kill();
    this.agent = null;
    this.#guests.clear();
    this.#lives++;
    const files = afterDeath(this.agentHost.files, fate, this.options.seed + this.#lives);
    this.agentHost = simPlatform(this.options.seed + 1000 * this.#lives, { ...this.#shared, files });
  }

  /** The guest's connection to a volume; made when it is first asked for. */
  async guest(volume: string): Promise<NbdClient> {
    const known = this.#guests.get(volume);
    if (known !== undefined && known.fault === null) return known;
    const uri = `nbd+unix:///${volume}?socket=${this.#guestSocket}`;
    const client = await this.run(connectNbd(this.agentHost, uri));
    this.#guests.set(volume, client);
    return client;
  }

  async waitProtected(limitMs = 600_000): Promise<void> {
    await this.clock.runUntil(() => this.agent?.status().state === 'protected', limitMs);
  }

  /** `count` guest operations, a few in flight, chosen by the seed: writes, now and then zeroes, trims, flushes. */
  async work(count: number, hotBytes = this.options.diskBytes): Promise<void> {
    const inFlight = new Set<Promise<void>>();
    for (let at = 0; at < count; at++) {
      const volume = this.volumes[this.#below(this.volumes.length)] ?? 'disk0';
      const client = await this.guest(volume);
      const done = this.#operation(client, at, hotBytes)
        .then(() => {
          this.answered++;
        })
        .finally(() => inFlight.delete(done));
      done.catch(() => undefined);
      inFlight.add(done);
      if (inFlight.size >= 8) await this.run(Promise.race(inFlight));
    }
    await this.run(Promise.all(inFlight));
  }

  /** As `work`, until `reached`, at about 500 operations a second. */
  async workUntil(reached: () => boolean, hotBytes = this.options.diskBytes): Promise<void> {
    while (!reached()) {
      await this.work(10, hotBytes);
      await sleep(this.clock, 20);
    }
  }

  #operation(client: NbdClient, serial: number, hotBytes: number): Promise<void> {
    const blocks = 1 + this.#below(8);
    const offset = this.#below(hotBytes / BLOCK - blocks) * BLOCK;
    const length = blocks * BLOCK;
    const dice = this.#below(100);
    if (dice < 85) return writeBytes(client, offset, Buffer.alloc(length, `${serial} at ${offset};`), dice < 5);
    if (dice < 90) return zeroRange(client, offset, length);
    if (dice < 95) return trimRange(client, offset, length);
    return flushDevice(client);
  }

  #below(limit: number): number {
    return Math.floor(this.random.fraction() * limit);
  }

  /** Upstream's bytes, read past everything of ours. */
  async upstream(volume: string): Promise<Buffer> {
    return await this.run(readAll(this.agentHost.files, `/${volume}.raw`));
  }

  /** The base image's bytes; the replica itself once the hub has stopped and drained. */
  async base(volume: string): Promise<Buffer> {
    return await this.run(readAll(this.hubFiles, `/data/groups/vm1/base/${volume}.raw`));
  }

  /** The replica as the hub exports it. */
  async replica(volume: string): Promise<Buffer> {
    const client = await this.run(connectNbd(this.agentHost, `nbd+unix:///vm1%2F${volume}?socket=${EXPORTS.path}`));
    const parts: Buffer[] = [];
    for (let at = 0; at < client.sizeBytes; at += READ_BYTES) {
      parts.push(await this.run(readBytes(client, at, Math.min(READ_BYTES, client.sizeBytes - at))));
    }
    await this.run(client.close());
    return Buffer.concat(parts);
  }

  cutLink(): void {
    for (const link of this.agentHost.network.links(LINK)) link.cut();
  }

  /** Nobody answers at the hub's address, or again somebody does. */
  silenceHub(silent: boolean): void {
    this.agentHost.network.setSilent(LINK, silent);
  }
}

/** Killed alone, a process leaves what it wrote in its host's cache, as little stable as it was. */
function afterDeath(files: SimFiles, fate: CrashFate, seed: number): SimFiles {
  if (fate !== 'keep' || files.crashed) return files.crash({ seed, fate });
  files.abandon();
  files.evict();
  return files;
}

/** A disk whose operations take from 20 µs to 1 ms, syncs up to 5 ms: crashes find every step half done. */
function slowDisk(clock: SimClock, seed: number): SimFiles {
  const random = new SeededRandomness(seed);
  return new SimFiles({
    clock,
    delayMs: (operation) => 0.02 + random.fraction() ** 4 * (operation === 'sync' ? 5 : 1),
  });
}

async function readAll(files: SimFiles, path: string): Promise<Buffer> {
  const file = await files.open(path, 'read');
  const { sizeBytes } = await file.status();
  const bytes = Buffer.alloc(sizeBytes);
  await file.read(bytes, 0);
  await file.close();
  return bytes;
}
