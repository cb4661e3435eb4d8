/**
 * The processes of a world, each with its host's disk and somebody who starts it again: agent, hub, and the
 * upstream's NBD server.
 *
 * Always holds: a process that was killed takes nothing back; a start that fails is tried again while the process is wanted.
 * Must not know: what is done to them, and what is expected of them.
 */
import { type AgentConfig, AgentGroup } from '@rephub/agent';
import { HubServer, openGroupStore } from '@rephub/hub';
import { type BlockDevice, NbdServer } from '@rephub/nbd';
import { type Address, asError, type Logger, type Platform, sleep } from '@rephub/platform';
import {
  type HostNetwork,
  type CrashFate,
  type SimClock,
  SeededRandomness,
  SimFiles,
  type SimNetwork,
  simPlatform,
  SimProcess,
} from '@rephub/platform/sim';
import { SimCatalogue } from './sim-catalogue.js';
import { type SimDisk } from './sim-disk.js';
import { type WireTap } from './wire-tap.js';

export const LINK: Address = { kind: 'tcp', host: '127.0.0.1', port: 9010 };
export const UPSTREAM: Address = { kind: 'tcp', host: '127.0.0.1', port: 10810 };
export const GUESTS: Address = { kind: 'unix', path: '/run/vm.sock' };

const RETRY_MS = 500;

/** What all processes of a world have in common. */
export interface Surroundings {
  readonly seed: number;
  readonly clock: SimClock;
  readonly network: SimNetwork;
  readonly tell: (what: string) => void;
}

/** One process: started, killed, stopped, started again. */
abstract class SupervisedProcess<T> {
  /** Null while it is not up. */
  up: T | null = null;
  starts = 0;
  /** When the newest process began. */
  startedMs = 0;
  files: SimFiles;
  protected readonly around: Surroundings;
  readonly #name: string;
  readonly #wire: ((network: HostNetwork) => HostNetwork) | undefined;
  #process: SimProcess | null = null;
  #wanted = false;
  #life = 0;

  constructor(name: string, around: Surroundings, files: SimFiles, wire?: (network: HostNetwork) => HostNetwork) {
    this.#name = name;
    this.around = around;
    this.files = files;
    this.#wire = wire;
  }

  get isWanted(): boolean {
    return this.#wanted;
  }

  /** A process runs, starts, ends or is stopped. */
  get isThere(): boolean {
    return this.#process !== null;
  }

  get isStopped(): boolean {
    return this.#process?.state === 'paused';
  }

  /** Starts it, again and again until it is up. */
  start(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#life += 1;
    void this.#live(this.#life);
  }

  async #live(life: number): Promise<void> {
    while (this.#wanted && this.#life === life) {
      const { seed, clock, network } = this.around;
      this.starts += 1;
      this.startedMs = clock.monotonicMs();
      const host = simPlatform(seed + 7919 * (this.starts + this.#name.length), { clock, network, files: this.files });
      const process = new SimProcess(this.#wire === undefined ? host : { ...host, network: this.#wire(network) });
      this.#process = process;
      this.around.tell(`${this.#name} starts`);
      try {
        const up = await this.open(process.platform);
        this.up = up;
        this.around.tell(`${this.#name} is up`);
        return;
      } catch (thrown) {
        this.around.tell(`${this.#name} cannot start: ${asError(thrown).message}`);
      }
      process.kill();
      await sleep(clock, RETRY_MS);
    }
  }

  /** It is killed instead of taking so many more steps (a timer, a completion, a chunk is one): in the midst of what it does. */
  killAfterSteps(steps: number, killed: () => void): void {
    this.#process?.killAtStep(this.#process.steps + steps, killed);
  }

  /** Asked to end, and not gone yet. */
  get isEnding(): boolean {
    return !this.#wanted && this.#process !== null;
  }

  /** Killed (`keep`), or its host has lost power. It is wanted no more until `start`. */
  kill(fate: CrashFate): void {
    this.#wanted = false;
    this.#life += 1;
    this.up = null;
    this.#process?.kill();
    this.#process = null;
    // Killed alone, it leaves what it wrote in its host's cache, as little stable as it was; what a failed sync has lost leaves it.
    this.files.abandon();
    if (fate === 'keep') this.files.evict();
    else this.files = this.files.crash({ seed: this.around.seed + this.#life * 31, fate });
    this.around.tell(`${this.#name} is killed, fate ${fate}`);
  }

  /** The orderly end; resolves when the process has gone. What cannot be closed in order is told, and left to the next start. */
  async end(): Promise<void> {
    const { up } = this;
    const life = this.#life;
    if (up === null) return;
    this.#wanted = false;
    this.up = null;
    this.around.tell(`${this.#name} is asked to end`);
    try {
      await this.close(up);
    } catch (thrown) {
      this.around.tell(`${this.#name} cannot end in order: ${asError(thrown).message}`);
    }
    if (this.#life !== life) return;
    this.kill('keep');
  }

  pause(): void {
    this.around.tell(`${this.#name} is stopped`);
    this.#process?.pause();
  }

  goOn(): void {
    if (!this.isStopped) return;
    this.around.tell(`${this.#name} goes on`);
    this.#process?.resume();
  }

  protected abstract open(platform: Platform): Promise<T>;
  protected abstract close(up: T): Promise<void>;
}

export class AgentProcess extends SupervisedProcess<AgentGroup> {
  readonly #config: () => AgentConfig;
  readonly #log: Logger;

  constructor(around: Surroundings, files: SimFiles, config: () => AgentConfig, log: Logger, tap: WireTap) {
    super('agent', around, files, (network) => tap.agent(network));
    this.#config = config;
    this.#log = log;
  }

  protected async open(platform: Platform): Promise<AgentGroup> {
    const group = await AgentGroup.open(platform, this.#config(), this.#log);
    await group.start();
    return group;
  }

  protected async close(group: AgentGroup): Promise<void> {
    await group.stop();
  }
}

export interface HubSettings {
  readonly retentionMs: number;
  readonly segmentBytes: number;
  readonly indexBytes: number;
}

export class HubProcess extends SupervisedProcess<HubServer> {
  readonly catalogue: SimCatalogue;
  readonly #settings: HubSettings;
  /** Whether the next orderly end applies everything. */
  drain = false;

  constructor(around: Surroundings, files: SimFiles, settings: HubSettings, tap: WireTap) {
    super('hub', around, files, (network) => tap.hub(network));
    this.#settings = settings;
    this.catalogue = new SimCatalogue(new SeededRandomness(around.seed + 6007), around.tell);
  }

  protected async open(platform: Platform): Promise<HubServer> {
    const server = await HubServer.open(platform, {
      directory: '/data',
      software: 'rephub under simulation',
      storage: this.#settings,
      openStore: openGroupStore,
      openCatalogue: (directory) => this.catalogue.open(platform, `${directory}/catalogue.sqlite`),
      listen: [LINK],
      nbd: [],
      insecure: false,
    });
    server.hub.events.listen(({ event, message }) => {
      this.around.tell(`hub: ${event}: ${message}`);
      // The hub survives a bug in a group; the run of this seed does not.
      if (event === 'internal-error') void Promise.reject(new Error(`hub: ${message}`));
    });
    return server;
  }

  protected async close(server: HubServer): Promise<void> {
    await server.close({ drain: this.drain, graceMs: 1000 });
  }
}

/** How the upstream presents its disks; changed to be refused. */
export interface Presented {
  readonly sizeBytes: number | null;
  readonly readOnly: boolean;
}

export const TRUE_DISK: Presented = { sizeBytes: null, readOnly: false };

export class UpstreamProcess extends SupervisedProcess<NbdServer> {
  presented: Presented = TRUE_DISK;
  readonly #disks: ReadonlyMap<string, SimDisk>;

  constructor(around: Surroundings, disks: ReadonlyMap<string, SimDisk>) {
    super('upstream', around, new SimFiles());
    this.#disks = disks;
  }

  protected async open(platform: Platform): Promise<NbdServer> {
    const { sizeBytes, readOnly } = this.presented;
    const server = new NbdServer({
      platform,
      exports: {
        list: () => [...this.#disks.keys()].map((name) => ({ name, description: '' })),
        open: async (name) => {
          const disk = this.#disks.get(name);
          if (disk === undefined) return { refused: 'unknown', message: `no export ${name}` };
          // A server that went on with a dead client's requests after a new one's could be told by no client.
          await disk.whenIdle();
          const device: BlockDevice = {
            sizeBytes: sizeBytes ?? disk.sizeBytes,
            abilities: { ...disk.abilities, readOnly },
            limits: disk.limits,
            submit: (request) => disk.submit(request),
            close: () => Promise.resolve(),
          };
          return { device, name, description: '', release: () => undefined };
        },
      },
    });
    await server.listen(UPSTREAM);
    return server;
  }

  protected async close(server: NbdServer): Promise<void> {
    await server.close(0);
  }
}
