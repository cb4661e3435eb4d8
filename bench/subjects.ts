/**
 * Who is measured: each stands between fio and an `nbdkit memory` of its own, so that only what is in between differs.
 * All are up at the same time and idle while another is measured.
 */
import { access } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { COMMANDS } from '../test/kit/commands.js';
import { compareByQemu } from '../test/kit/contents.js';
import { nbdkit, type Peer, qemuNbd, qemuPassThrough, sparseFile } from '../test/kit/peers.js';
import { AgentPlace, HubPlace } from '../test/kit/rephub-system.js';
import { type Scope } from '../test/kit/scope.js';
import { type Memory, residentMemory } from './machine.js';

/** What a protected run has to show for itself before its figure counts. */
export interface Proof {
  readonly counts: boolean;
  readonly why: string;
  /** From the end of the load until the last byte was durable at the hub. */
  readonly settledMs: number;
}

export interface Subject {
  readonly name: string;
  readonly uri: string;
  readonly pids: readonly number[];
  /** Called before and after each run of a subject that replicates; `after` gives the proof. */
  readonly replication?: { before(): Promise<void>; after(): Promise<Proof> };
  readonly memory?: () => Promise<Readonly<Record<string, Memory>>>;
}

type Starter = (scope: Scope, sizeBytes: number) => Promise<Subject>;

async function backend(scope: Scope, sizeBytes: number): Promise<Peer> {
  return await nbdkit(scope, ['memory', String(sizeBytes)]);
}

const alone: Starter = async (scope, sizeBytes) => {
  const peer = await backend(scope, sizeBytes);
  return { name: 'backend alone (nbdkit memory)', uri: peer.uri, pids: [peer.child.pid] };
};

const nbdkitProxy: Starter = async (scope, sizeBytes) => {
  const peer = await backend(scope, sizeBytes);
  if (!('socket' in peer.address)) throw new Error('a socket was asked for');
  const proxy = await nbdkit(scope, ['nbd', `socket=${peer.address.socket}`]);
  return { name: 'nbdkit nbd (proxy)', uri: proxy.uri, pids: [proxy.child.pid, peer.child.pid] };
};

const qemuProxy: Starter = async (scope, sizeBytes) => {
  const peer = await backend(scope, sizeBytes);
  const proxy = await qemuPassThrough(scope, peer.address);
  return { name: 'QEMU pass-through', uri: proxy.uri, pids: [proxy.child.pid, peer.child.pid] };
};

function mirror(name: string, target: (scope: Scope, sizeBytes: number) => Promise<Peer>): Starter {
  return async (scope, sizeBytes) => {
    const [peer, copy] = [await backend(scope, sizeBytes), await target(scope, sizeBytes)];
    const proxy = await qemuPassThrough(scope, peer.address, { mirrorTo: copy.address });
    return { name, uri: proxy.uri, pids: [proxy.child.pid, peer.child.pid, copy.child.pid] };
  };
}

const agentAlone: Starter = async (scope, sizeBytes) => {
  const peer = await backend(scope, sizeBytes);
  const agent = await AgentPlace.prepare(scope, { volumes: [{ name: 'disk0', upstream: peer.uri }] });
  await agent.start();
  return {
    name: 'repagent, no hub',
    uri: agent.uri(),
    pids: [agent.child.pid, peer.child.pid],
    memory: async () => ({ agent: await residentMemory(agent.child.pid) }),
  };
};

const replicated =
  (name: string, args: readonly string[]): Starter =>
  async (scope, sizeBytes) => {
    const peer = await backend(scope, sizeBytes);
    const hub = await HubPlace.prepare(scope);
    await hub.start();
    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: peer.uri }],
      hubUrl: hub.url,
      // Every write is to be streamed: a full window holds the guest back instead of leaving writes to a resync.
      args: ['--on-congestion', 'block', ...args],
    });
    await agent.start();
    await agent.waitUntilProtected();
    const pulledAhead = async (): Promise<number> => (await agent.status()).counters['pulledAheadBytes'] ?? Number.NaN;
    let pulledBefore = 0;
    return {
      name,
      uri: agent.uri(),
      pids: [agent.child.pid, hub.child.pid, peer.child.pid],
      memory: async () => ({ agent: await residentMemory(agent.child.pid), hub: await residentMemory(hub.child.pid) }),
      replication: {
        before: async () => {
          await agent.waitUntilProtected(120_000);
          pulledBefore = await pulledAhead();
        },
        after: async () => {
          const ended = performance.now();
          for (;;) {
            const { state, lagBytes, dirtyBytes, seq, durableSeq } = await hubAndAgent(hub, agent);
            const settledMs = Math.round(performance.now() - ended);
            if (state === 'protected' && lagBytes === 0 && dirtyBytes === 0 && seq === durableSeq) {
              return await proof(settledMs, (await pulledAhead()) - pulledBefore, peer.uri, hub.uri('vm1', 'disk0'));
            }
            if (settledMs > 60_000)
              return {
                counts: false,
                why: `not durable after a minute: ${state}, ${lagBytes ?? '?'} bytes behind`,
                settledMs,
              };
            await delay(20);
          }
        },
      },
    };
  };

/** The agent's own word, which is the later one: what it has not heard to be durable is not. */
async function hubAndAgent(
  hub: HubPlace,
  agent: AgentPlace,
): Promise<{ state: string; lagBytes: number | null; dirtyBytes: number; seq: number; durableSeq: number }> {
  const told = await hub.status(agent.group);
  // The agent's figures come to the hub with a beat, a second apart: while they cannot be right yet, ask it itself.
  const { state, lagBytes, dirtyBytes, seq, durableSeq } = await agent.status();
  return { state: told.state === 'protected' ? state : told.state, lagBytes, dirtyBytes, seq, durableSeq };
}

async function proof(settledMs: number, pulledAheadBytes: number, upstream: string, replica: string): Promise<Proof> {
  if (pulledAheadBytes !== 0)
    return { counts: false, why: `${pulledAheadBytes} bytes were not streamed but pulled ahead`, settledMs };
  if (settledMs > 1000)
    return { counts: false, why: `the last byte was durable only after ${settledMs} ms`, settledMs };
  const { verdict, said } = await compareByQemu(upstream, replica);
  return {
    counts: verdict === 'same',
    why: verdict === 'same' ? 'replicated' : `contents: ${verdict}: ${said}`,
    settledMs,
  };
}

const built = async (path: string): Promise<boolean> =>
  await access(path).then(
    () => true,
    () => false,
  );

export interface Cast {
  readonly subjects: readonly Subject[];
  /** Who is not measured, and why. */
  readonly absent: readonly string[];
}

/**
 * Starts everybody. The mirror's other targets are files on the disk that the hub's journal is on too: one in the page
 * cache, which is no promise, and one written past it, which is the nearest thing to a hub that acknowledges durably.
 */
export async function startSubjects(scope: Scope, sizeBytes: number): Promise<Cast> {
  const starters: Starter[] = [
    alone,
    nbdkitProxy,
    qemuProxy,
    mirror('QEMU active mirror to memory', backend),
    mirror('QEMU active mirror to a file', async (inner, size) => await qemuNbd(inner, await sparseFile(inner, size))),
    mirror('the same, past the page cache', async (inner, size) => {
      return await qemuNbd(inner, await sparseFile(inner, size), { args: ['--cache=none', '--aio=threads'] });
    }),
  ];
  const withHub = [
    replicated('repagent and rephub', []),
    replicated('repagent and rephub, semi-sync', ['--mode', 'semi-sync']),
    replicated('repagent and rephub, sync', ['--mode', 'sync']),
  ];
  const absent: string[] = [];
  if (await built(COMMANDS.repagent)) starters.push(agentAlone);
  else absent.push('repagent: not built');
  if ((await built(COMMANDS.repagent)) && (await built(COMMANDS.rephub))) starters.push(...withHub);
  else absent.push('rephub: not built');
  const subjects: Subject[] = [];
  for (const starter of starters) subjects.push(await starter(scope, sizeBytes));
  return { subjects, absent };
}
