/**
 * The product as users run it: `rephub serve` and `repagent run` as processes of their own, in folders of their own.
 *
 * A hub or an agent is a place (folders, addresses) in which a process can be started, killed and started again. What
 * they say of themselves comes from their status commands; whether the disks are equal is never asked of them but
 * compared by other makers' tools.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Address, freePort, listens, tcpUri, unixUri } from './addresses.js';
import { COMMANDS } from './commands.js';
import { type Comparison, compareFiles, copyOf } from './contents.js';
import { type Child, start } from './process.js';
import { type Scope } from './scope.js';
import { agentGroupOf, type AgentStatus, type GroupStatus, groupsOf } from './status.js';
import { tempDir } from './temp-dir.js';
import { waitUntil } from './wait.js';

export interface HubOptions {
  /** More options of `rephub serve`. */
  readonly args?: readonly string[];
  readonly dataDir?: string;
  /** Options of Node itself. */
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** A place for a hub. */
export class HubPlace {
  readonly dataDir: string;
  readonly linkPort: number;
  readonly httpPort: number;
  readonly nbdPort: number;
  readonly nbdSocket: string;
  readonly #scope: Scope;
  readonly #nodeArgs: readonly string[];
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: Child | undefined;

  private constructor(scope: Scope, dir: string, ports: readonly [number, number, number], options: HubOptions) {
    this.#scope = scope;
    this.dataDir = options.dataDir ?? join(dir, 'data');
    [this.linkPort, this.httpPort, this.nbdPort] = ports;
    this.nbdSocket = join(dir, 'hub.sock');
    this.#nodeArgs = options.nodeArgs ?? [];
    this.#env = options.env ?? {};
    this.#args = options.args ?? [];
  }

  /** Picks addresses; starts nothing. */
  static async prepare(scope: Scope, options: HubOptions = {}): Promise<HubPlace> {
    const ports = [await freePort(), await freePort(), await freePort()] as const;
    return new HubPlace(scope, await tempDir(scope), ports, options);
  }

  get url(): string {
    return `tcp://127.0.0.1:${this.linkPort}`;
  }

  get http(): string {
    return `127.0.0.1:${this.httpPort}`;
  }

  get child(): Child {
    if (this.#child === undefined) throw new Error('the hub was not started');
    return this.#child;
  }

  /** Starts the process, and returns when it serves. */
  async start(): Promise<void> {
    const args = [
      ...[...this.#nodeArgs, COMMANDS.rephub, 'serve', '--data', this.dataDir, '--listen', this.url],
      ...['--http', this.http, '--nbd', unixUri(this.nbdSocket), '--nbd', tcpUri(this.nbdPort), ...this.#args],
    ];
    this.#child = start(this.#scope, process.execPath, args, { env: this.#env });
    await this.#child.waitFor('rephub to serve', async () => await this.#answers());
  }

  async #answers(): Promise<boolean> {
    return await fetch(`http://${this.http}/healthz`).then(
      () => true,
      () => false,
    );
  }

  /** The replica of a volume over NBD: as it is now, at a point (`@…`), or of a test (`!…`). */
  uri(group: string, volume: string, suffix = ''): string {
    return unixUri(this.nbdSocket, `${group}/${volume}${suffix}`);
  }

  /** The base image: the replica itself once the hub has stopped in order, with retention 0. */
  baseFile(group: string, volume: string): string {
    return join(this.dataDir, 'groups', group, 'base', `${volume}.raw`);
  }

  async status(group: string): Promise<GroupStatus> {
    const text = await (await fetch(`http://${this.http}/api/v1/status`)).text();
    const found = groupsOf(text).find(({ name }) => name === group);
    if (found === undefined) throw new Error(`the hub knows no group ${group}: ${text}`);
    return found;
  }

  /** Waits for so many more records of a group than it has now. */
  async moreRecords(group: string, count: number): Promise<void> {
    const { seq } = await this.status(group);
    await this.waitFor(group, `${count} more records`, (status) => status.seq > seq + count);
  }

  /** Waits until the hub says so of a group; the failure shows what it said last. */
  async waitFor(
    group: string,
    what: string,
    check: (status: GroupStatus) => boolean,
    timeoutMs = 60_000,
  ): Promise<GroupStatus> {
    let last = 'nothing';
    return await waitUntil(
      `hub, group ${group}: ${what}`,
      async () => {
        const status = await this.status(group).catch((error: unknown) => {
          last = String(error);
          return undefined;
        });
        if (status === undefined) return undefined;
        last = JSON.stringify(status);
        return check(status) ? status : undefined;
      },
      { timeoutMs, intervalMs: 50, seen: () => `${last}\nthe hub said: ${this.child.output.slice(-2000)}` },
    );
  }
}

export interface VolumePlace {
  readonly name: string;
  readonly upstream: string;
}

export interface AgentOptions {
  readonly group?: string;
  /** Default: one volume named disk0. */
  readonly volumes: readonly VolumePlace[];
  /** Where the hub is; none: a proxy that tracks changes. */
  readonly hubUrl?: string;
  readonly stateDir?: string;
  /** More options of `repagent run`. */
  readonly args?: readonly string[];
  /** Options of Node itself. */
  readonly nodeArgs?: readonly string[];
}

/** A place for an agent. */
export class AgentPlace {
  readonly group: string;
  readonly volumes: readonly VolumePlace[];
  readonly stateDir: string;
  readonly address: Address & { readonly socket: string };
  readonly httpPort: number;
  readonly #scope: Scope;
  readonly #nodeArgs: readonly string[];
  readonly #args: readonly string[];
  #child: Child | undefined;

  private constructor(scope: Scope, dir: string, config: string, httpPort: number, options: AgentOptions) {
    this.#scope = scope;
    this.httpPort = httpPort;
    this.#nodeArgs = options.nodeArgs ?? [];
    this.group = options.group ?? 'vm1';
    this.volumes = options.volumes;
    this.stateDir = options.stateDir ?? join(dir, 'state');
    this.address = { socket: join(dir, 'agent.sock') };
    const [volume, ...others] = options.volumes;
    if (volume === undefined) throw new Error('an agent needs a volume');
    const disks = others.length === 0 ? ['--volume', volume.name, '--upstream', volume.upstream] : ['-c', config];
    const hub = options.hubUrl === undefined ? [] : ['--hub', options.hubUrl];
    this.#args = [
      ...['run', '--group', this.group, ...disks, '--listen', unixUri(this.address.socket), ...hub],
      ...['--state', this.stateDir, '--http', `127.0.0.1:${httpPort}`, ...(options.args ?? [])],
    ];
  }

  /** Picks addresses, writes the file for several volumes; starts nothing. */
  static async prepare(scope: Scope, options: AgentOptions): Promise<AgentPlace> {
    const dir = await tempDir(scope);
    const config = join(dir, 'agent.yaml');
    if (options.volumes.length > 1) {
      await writeFile(
        config,
        JSON.stringify({ volumes: options.volumes.map(({ name, upstream }) => ({ name, upstream })) }),
      );
    }
    return new AgentPlace(scope, dir, config, await freePort(), options);
  }

  /** What `repagent status` and the like ask. */
  get controlSocket(): string {
    return join(this.stateDir, 'control.sock');
  }

  get child(): Child {
    if (this.#child === undefined) throw new Error('the agent was not started');
    return this.#child;
  }

  /** What a client connects to; the empty name is the only volume. */
  uri(volume = ''): string {
    return unixUri(this.address.socket, volume);
  }

  /** Starts the process, and returns when it listens. */
  async start(): Promise<void> {
    const child = start(this.#scope, process.execPath, [...this.#nodeArgs, COMMANDS.repagent, ...this.#args]);
    this.#child = child;
    await child.waitFor('repagent to listen', async () => await listens(this.address));
  }

  /** The same object as `repagent status --json`, without a process for each look. */
  async status(): Promise<AgentStatus> {
    const text = await (await fetch(`http://127.0.0.1:${this.httpPort}/status`)).text();
    const status = agentGroupOf(text);
    if (status === undefined) throw new Error(`the agent's status has no group: ${text}`);
    return status;
  }

  /** Waits until the agent says so; the failure shows what it said last. */
  async waitFor(what: string, check: (status: AgentStatus) => boolean, timeoutMs = 60_000): Promise<AgentStatus> {
    let last = 'nothing';
    return await waitUntil(
      `agent of ${this.group}: ${what}`,
      async () => {
        const status = await this.status().catch((error: unknown) => {
          last = String(error);
          return undefined;
        });
        if (status === undefined) return undefined;
        last = JSON.stringify(status);
        return check(status) ? status : undefined;
      },
      { timeoutMs, intervalMs: 100, seen: () => `${last}\nthe agent said: ${this.child.output.slice(-2000)}` },
    );
  }

  /** Waits until every write so far is durable at the hub and nothing is left to send. */
  async waitUntilProtected(timeoutMs = 60_000): Promise<AgentStatus> {
    return await this.waitFor(
      'protected, nothing behind',
      (status) => status.state === 'protected' && status.lagBytes === 0 && status.dirtyBytes === 0,
      timeoutMs,
    );
  }
}

export interface System {
  readonly hub: HubPlace;
  readonly agent: AgentPlace;
}

export interface SystemOptions {
  readonly hub?: HubOptions;
  readonly agent?: Partial<AgentOptions>;
  /** Where the agent finds the hub; the hub itself when left out. */
  readonly hubUrl?: (hub: HubPlace) => Promise<string>;
}

/** A hub and an agent for one volume, both running, in step with each other. */
export async function startSystem(scope: Scope, upstream: string, options: SystemOptions = {}): Promise<System> {
  const hub = await HubPlace.prepare(scope, options.hub);
  await hub.start();
  const hubUrl = options.hubUrl === undefined ? hub.url : await options.hubUrl(hub);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream }], hubUrl, ...options.agent });
  await agent.start();
  await agent.waitUntilProtected();
  return { hub, agent };
}

/** Upstream, read past the agent, against the replica, read from the hub: copied by nbdcopy, compared by cmp. */
export async function compareWithReplica(
  scope: Scope,
  upstream: string,
  hub: HubPlace,
  group = 'vm1',
  volume = 'disk0',
): Promise<Comparison> {
  return await compareFiles(await copyOf(scope, upstream), await copyOf(scope, hub.uri(group, volume)));
}
