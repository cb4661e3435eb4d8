/**
 * Everything that takes part, as real processes on loopback: a VM with two disks behind one agent, a hub, a cutting proxy
 * between the two, and two guests: our judged writer on one disk, fio through QEMU on the other.
 *
 * Must not know: what is done to it.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Address } from '../kit/addresses.js';
import { CuttingProxy } from '../kit/cutting-proxy.js';
import { filledDisk } from '../kit/filled-disk.js';
import { nbdkit, type Peer, qemuNbd, sparseFile } from '../kit/peers.js';
import { AgentPlace, HubPlace } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { smallDisk } from '../kit/small-disk.js';
import { Actor, type Violated } from './actors.js';

export const UPSTREAMS = ['qemu-nbd', 'nbdkit', 'file'] as const;
export type UpstreamKind = (typeof UPSTREAMS)[number];

export const GROUP = 'vm1';
/** Written by our writer, and by fio. */
export const JUDGED = 'judged';
export const OTHER = 'other';

const MiB = 1 << 20;
const HUB_DISK_BYTES = 1024 * MiB;
const RESERVE = '64MiB';
export const JUDGED_BYTES = 32 * MiB;
export const OTHER_BYTES = 48 * MiB;

/** Upstream servers that are away. */
export interface Away {
  /** So far, killed, stopped or crashed. */
  lost: number;
  /** Down or standing still now. */
  now: number;
}

/** The hub's disk, a real small file system. */
export interface HubDisk {
  readonly dir: string;
  /** How often it was filled so far. */
  fills: number;
  isFull: boolean;
}

export interface Stage {
  readonly hub: HubPlace;
  readonly agent: AgentPlace;
  readonly proxy: CuttingProxy;
  readonly hubActor: Actor;
  readonly agentActor: Actor;
  /** None with upstream `file`. */
  readonly upstreamActors: readonly Actor[];
  /** The disks themselves: what the replica is compared with. */
  readonly files: { readonly judged: string; readonly other: string };
  readonly away: Away;
  readonly disk: HubDisk;
}

export interface StageOptions {
  readonly upstream: UpstreamKind;
  readonly retention: '0' | '1h';
  readonly violated: Violated;
}

/** Starts all but the guests; returns when the group is protected. */
export async function setStage(scope: Scope, options: StageOptions): Promise<Stage> {
  const { violated } = options;
  const files = { judged: await sparseFile(scope, JUDGED_BYTES), other: await filledDisk(scope, OTHER_BYTES) };
  const away: Away = { lost: 0, now: 0 };
  const upstreamActors: Actor[] = [];
  const uris: string[] = [];
  for (const [name, file] of Object.entries(files)) {
    if (options.upstream === 'file') {
      uris.push(`file:${file}`);
      continue;
    }
    let address: Address | undefined;
    let uri = '';
    const actor = new Actor({
      name: `upstream of ${name}`,
      begin: async () => {
        const peer = await serve(scope, options.upstream, file, address);
        ({ address, uri } = peer);
        return peer.child;
      },
      stopsWith: () => () => [0],
      ours: false,
      crashed: (isAway) => {
        if (isAway) away.lost += 1;
        away.now += isAway ? 1 : -1;
      },
      violated,
    });
    await actor.start();
    upstreamActors.push(actor);
    uris.push(uri);
  }

  const disk: HubDisk = { dir: await smallDisk(scope, HUB_DISK_BYTES), fills: 0, isFull: false };
  const hub = await HubPlace.prepare(scope, {
    dataDir: join(disk.dir, 'data'),
    args: ['--retention', options.retention, '--reserve', RESERVE, '--log-format', 'json'],
  });
  const hubActor = new Actor({
    name: 'hub',
    begin: async () => await beginHub(hub, disk),
    // On a full disk what is left cannot be applied: exit 1, and the next start recovers.
    stopsWith: () => {
      const { fills, isFull } = disk;
      return () => (isFull || disk.fills > fills ? [0, 1] : [0]);
    },
    ours: true,
    violated,
  });
  await hubActor.start();
  const proxy = await CuttingProxy.start(scope, { port: hub.linkPort });
  const agent = await AgentPlace.prepare(scope, {
    group: GROUP,
    volumes: [JUDGED, OTHER].map((name, index) => ({ name, upstream: uris[index] ?? '' })),
    hubUrl: `tcp://127.0.0.1:${proxy.port}`,
    args: [
      ...['--window', '4MiB', '--retries', 'forever', '--retry-delay', '100ms', '--retry-exponential', 'no'],
      ...['--hot-extents', '16', '--log-format', 'json'],
    ],
  });
  const stage: Stage = {
    hub,
    agent,
    proxy,
    hubActor,
    agentActor: new Actor({
      name: 'agent',
      begin: async () => await beginAgent(agent, away),
      // With an upstream away the last flush cannot be done: the contract's exit 1.
      stopsWith: () => {
        const { lost, now } = away;
        return () => (now > 0 || away.lost > lost ? [0, 1] : [0]);
      },
      ours: true,
      violated,
    }),
    upstreamActors,
    files,
    away,
    disk,
  };
  await stage.agentActor.start();
  await agent.waitUntilProtected();
  return stage;
}

/** An agent needs its upstream at the start: while one is away, it is tried again. */
async function beginAgent(agent: AgentPlace, away: Away): Promise<AgentPlace['child']> {
  for (;;) {
    const { lost, now } = away;
    try {
      await agent.start();
      await agent.child.waitForOutput(/"event":"ready"/);
      return agent.child;
    } catch (error) {
      if (now === 0 && away.now === 0 && away.lost === lost) throw error;
      await agent.child.stop();
      await delay(100);
    }
  }
}

/** A start takes a little room: on a full disk it is tried again. */
async function beginHub(hub: HubPlace, disk: HubDisk): Promise<HubPlace['child']> {
  for (;;) {
    const { fills, isFull } = disk;
    try {
      await hub.start();
      return hub.child;
    } catch (error) {
      if (!isFull && !disk.isFull && disk.fills === fills) throw error;
      await hub.child.stop();
      await delay(200);
    }
  }
}

async function serve(scope: Scope, kind: UpstreamKind, file: string, address: Address | undefined): Promise<Peer> {
  const at = address === undefined ? {} : { at: address };
  if (kind === 'qemu-nbd') return await qemuNbd(scope, file, at);
  return await nbdkit(scope, ['file', file], at);
}
