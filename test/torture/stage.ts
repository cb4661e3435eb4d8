/**
 * Everything that takes part, as real processes on loopback: a VM with two disks behind one agent, a hub, a cutting proxy
 * between the two, and two guests: our judged writer on one disk, fio through QEMU on the other.
 *
 * Must not know: what is done to it.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Address } from '../kit/addresses.js';
import { CuttingProxy } from '../kit/cutting-proxy.js';
import { filledDisk } from '../kit/filled-disk.js';
import { nbdkit, type Peer, qemuNbd, sparseFile } from '../kit/peers.js';
import { AgentPlace, HubPlace } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { Actor, type Violated } from './actors.js';

export const UPSTREAMS = ['qemu-nbd', 'nbdkit', 'file'] as const;
export type UpstreamKind = (typeof UPSTREAMS)[number];

export const GROUP = 'vm1';
/** Written by our writer, and by fio. */
export const JUDGED = 'judged';
export const OTHER = 'other';

const MiB = 1 << 20;
export const JUDGED_BYTES = 32 * MiB;
export const OTHER_BYTES = 48 * MiB;

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
  /** Upstream servers that were killed or stopped so far: acknowledged writes may make the guest's next flush fail. */
  upstreamsLost: number;
  /** An upstream is down, or standing still, now. */
  upstreamsAway: number;
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
      stopsWith: () => [0],
      judgesLog: false,
      violated,
    });
    await actor.start();
    upstreamActors.push(actor);
    uris.push(uri);
  }

  const hub = await HubPlace.prepare(scope, {
    args: ['--retention', options.retention, '--log-format', 'json'],
  });
  const hubActor = new Actor({
    name: 'hub',
    begin: async () => {
      await hub.start();
      return hub.child;
    },
    stopsWith: () => [0],
    judgesLog: true,
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
      begin: async () => await beginAgent(agent, stage),
      // With an upstream away the last flush cannot be done: the contract's exit 1.
      stopsWith: () => (stage.upstreamsAway > 0 ? [0, 1] : [0]),
      judgesLog: true,
      violated,
    }),
    upstreamActors,
    files,
    upstreamsLost: 0,
    upstreamsAway: 0,
  };
  await stage.agentActor.start();
  await agent.waitUntilProtected();
  return stage;
}

/** An agent needs its upstream at the start: while one is away, it is tried again. */
async function beginAgent(agent: AgentPlace, stage: Stage): Promise<AgentPlace['child']> {
  for (;;) {
    const lost = stage.upstreamsLost;
    const away = stage.upstreamsAway > 0;
    try {
      await agent.start();
      await agent.child.waitForOutput(/"event":"ready"/);
      return agent.child;
    } catch (error) {
      if (!away && stage.upstreamsAway === 0 && stage.upstreamsLost === lost) throw error;
      await agent.child.stop();
    }
  }
}

async function serve(scope: Scope, kind: UpstreamKind, file: string, address: Address | undefined): Promise<Peer> {
  const at = address === undefined ? {} : { at: address };
  if (kind === 'qemu-nbd') return await qemuNbd(scope, file, at);
  return await nbdkit(scope, ['file', file], at);
}

/** Base images of the group that are there: names of files in the hub's folder. */
export async function baseImages(hub: HubPlace): Promise<readonly string[]> {
  const names = await readdir(join(hub.dataDir, 'groups', GROUP, 'base'));
  return names.filter((name) => name.endsWith('.raw'));
}
