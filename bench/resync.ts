/**
 * What a resync costs, beside `nbdcopy --flush` of the same source to `nbdkit file` on the hub's file system:
 *
 *   npm run bench:resync                 everything sent, everything compared, 1 % of a large disk, the guest beside it
 *   npm run bench:resync -- --link 1gbit  the same two over a loopback shaped to 1 Gbit/s (tc, a network namespace of its own)
 *   npm run bench:resync -- --guest       only what guests notice, on the disk that is copied, and on another volume of a slow disk
 *
 * A resync counts from the request until its span is durable at the hub. Both sides take turns; medians are compared.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeClock } from '@rephub/platform/node';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { QueuedDisk } from '../packages/agent/src/testing/queued-disk.js';
import { ScriptedDevice } from '../packages/agent/src/testing/scripted-device.js';
import { filledDisk } from '../test/kit/filled-disk.js';
import { load, startLoad } from '../test/kit/load.js';
import { serveNbd } from '../test/kit/nbd-serve.js';
import { nbdkit, sparseFile } from '../test/kit/peers.js';
import { must } from '../test/kit/process.js';
import { AgentPlace, HubPlace } from '../test/kit/rephub-system.js';
import { Scope } from '../test/kit/scope.js';
import { tempDir } from '../test/kit/temp-dir.js';
import { quiet } from './machine.js';
import { median } from './results.js';

const MiB = 1 << 20;
const GiB = 1 << 30;
const DISK_BYTES = GiB;
const LARGE_BYTES = 64 * GiB;
const DIRTY_WRITE_BYTES = 64 * 1024;
const SHAPED = 'REPHUB_BENCH_SHAPED';

interface System {
  readonly agent: AgentPlace;
  readonly hub: HubPlace;
}

async function system(scope: Scope, ...upstreams: string[]): Promise<System> {
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const agent = await AgentPlace.prepare(scope, {
    volumes: upstreams.map((upstream, index) => ({ name: `disk${index}`, upstream })),
    hubUrl: hub.url,
  });
  await agent.start();
  await agent.waitUntilProtected(300_000);
  return { agent, hub };
}

async function ask(agent: AgentPlace, path: string): Promise<void> {
  const asked = request({ socketPath: join(agent.stateDir, 'control.sock'), path, method: 'POST' }).end();
  const [answer] = (await once(asked, 'response')) as [{ statusCode?: number; resume(): void }];
  answer.resume();
  if (answer.statusCode !== 200) throw new Error(`${path}: the agent answers ${answer.statusCode ?? 'nothing'}`);
}

/** Seconds from the request until the resync's end is durable at the hub. */
async function resync(agent: AgentPlace, path: string): Promise<{ seconds: number; sent: number; compared: number }> {
  const before = (await agent.status()).lastResync?.finishedAt ?? '';
  const began = performance.now();
  await ask(agent, path);
  for (;;) {
    const { lastResync, state, dirtyBytes } = await agent.status();
    if (lastResync !== null && lastResync.finishedAt !== before && state === 'protected' && dirtyBytes === 0) {
      return {
        seconds: (performance.now() - began) / 1000,
        sent: lastResync.bytesSent,
        compared: lastResync.bytesCompared,
      };
    }
    await delay(10);
  }
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

function tell(what: string, ours: readonly number[], theirs: readonly number[], bytes: number): void {
  const [a, b] = [median(ours), median(theirs)];
  const rate = (time: number): string => `${(bytes / MiB / time).toFixed(0)} MiB/s`;
  console.log(
    `${what}: ${rate(a)} (${a.toFixed(2)} s), nbdcopy ${rate(b)} (${b.toFixed(2)} s): ${(b / a).toFixed(2)}x`,
  );
}

/** Everything sent, and everything compared, against a copy of everything. */
async function againstNbdcopy(scope: Scope, rounds: number, overTcp: boolean): Promise<void> {
  const source = await nbdkit(scope, ['file', await filledDisk(scope, DISK_BYTES)]);
  // What is written back of the source would be written on somebody's time.
  await must('sync', []);
  const { agent, hub } = await system(scope, source.uri);
  const dir = await tempDir(scope);
  const full: number[] = [];
  const compared: number[] = [];
  const copied: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const target = join(dir, 'copy.raw');
    await rm(target, { force: true });
    await must('truncate', ['-s', String(DISK_BYTES), target]);
    const copy = await nbdkit(scope, ['file', target], overTcp ? { at: 'tcp' } : {});
    await quiet([agent.child.pid, hub.child.pid, copy.child.pid]);
    copied.push(
      await seconds(async () => await must('nbdcopy', ['--flush', source.uri, copy.uri], { timeoutMs: 300_000 })),
    );
    await copy.child.stop();
    await quiet([agent.child.pid, hub.child.pid]);
    const sent = await resync(agent, '/resync?full=true&compare=false');
    if (sent.sent !== DISK_BYTES) throw new Error(`a full resync of ${DISK_BYTES} bytes sent ${sent.sent}`);
    full.push(sent.seconds);
    await quiet([agent.child.pid, hub.child.pid]);
    const equal = await resync(agent, '/resync?full=false&compare=true');
    if (equal.sent !== 0) throw new Error(`equal sides were compared and ${equal.sent} bytes sent`);
    compared.push(equal.seconds);
    console.log(
      `round ${round + 1}: nbdcopy ${copied.at(-1)?.toFixed(2) ?? ''} s, full ${sent.seconds.toFixed(2)} s, compared ${equal.seconds.toFixed(2)} s`,
    );
  }
  tell('everything sent', full, copied, DISK_BYTES);
  tell('equal, compared by checksum', compared, copied, DISK_BYTES);
}

/** A hub that was away while a part of a large sparse disk was written. */
async function delta(scope: Scope): Promise<void> {
  const { agent, hub } = await system(scope, `file:${await sparseFile(scope, LARGE_BYTES)}`);
  for (const percent of [0.25, 1]) {
    await quiet([agent.child.pid, hub.child.pid]);
    await ask(agent, '/pause');
    const bytes = Math.round((LARGE_BYTES * percent) / 100 / DIRTY_WRITE_BYTES) * DIRTY_WRITE_BYTES;
    await load(agent.uri(), {
      pattern: 'randwrite',
      blockBytes: DIRTY_WRITE_BYTES,
      depth: 8,
      sizeBytes: LARGE_BYTES,
      seed: percent * 100,
      extra: [`--io_size=${bytes}`, '--norandommap=0'],
    });
    const { dirtyBytes } = await agent.status();
    const took = await resync(agent, '/resume');
    console.log(
      `${percent} % of a sparse disk of ${LARGE_BYTES / GiB} GiB: ${(dirtyBytes / MiB).toFixed(0)} MiB dirty, resynced in ${took.seconds.toFixed(2)} s, ${(took.sent / MiB / took.seconds).toFixed(0)} MiB/s`,
    );
  }
}

/** What a guest of moderate demand notices of a resync beside it. */
async function guestBeside(scope: Scope): Promise<void> {
  const source = await nbdkit(scope, ['file', await filledDisk(scope, DISK_BYTES)]);
  const { agent } = await system(scope, source.uri);
  const guest = {
    pattern: 'randrw',
    blockBytes: 4096,
    depth: 4,
    sizeBytes: DISK_BYTES,
    ratePerSecond: 500,
  } as const;
  const alone = await load(agent.uri(), { ...guest, seconds: 5 });
  const running = await startLoad(scope, agent.uri(), { ...guest, seconds: 5, seed: 2 });
  const guestLoad = { over: false };
  const finished = running.finished().finally(() => (guestLoad.over = true));
  let rounds = 0;
  for (; !guestLoad.over; rounds += 1) await resync(agent, '/resync?full=true&compare=false');
  const beside = await finished;
  console.log(
    `guest of 1,000 requests a second: p99 ${alone.p99Ms.toFixed(2)} ms alone, ${beside.p99Ms.toFixed(2)} ms beside ${rounds} full resyncs: ${(beside.p99Ms / alone.p99Ms).toFixed(2)}x`,
  );
}

/**
 * What it notices where the disk is the bottleneck and no processor: a model of one that turns (2 ms for each request, and
 * 100 MB/s), with both volumes on it. A resync may take longer for that.
 */
async function guestOnSlowDisk(scope: Scope, volume: 'disk0' | 'disk1'): Promise<void> {
  const disk = new QueuedDisk(nodeClock(), { requestMs: 2, bytesPerMs: 100_000 });
  const served = { disk0: turning(disk, DISK_BYTES), disk1: turning(disk, 64 * MiB) };
  const { uri } = await serveNbd(scope, served);
  const { agent } = await system(scope, uri('disk0'), uri('disk1'));
  const guest = { pattern: 'randrw', blockBytes: 4096, depth: 2, sizeBytes: 64 * MiB, ratePerSecond: 25 } as const;
  const alone = await load(agent.uri(volume), { ...guest, seconds: 15 });
  const running = await startLoad(scope, agent.uri(volume), { ...guest, seconds: 40, seed: 2 });
  const [began, before] = [performance.now(), disk.bytes];
  const guestLoad = { over: false, rate: 0 };
  const finished = running.finished().finally(() => {
    guestLoad.over = true;
    guestLoad.rate = (disk.bytes - before) / MiB / ((performance.now() - began) / 1000);
  });
  while (!guestLoad.over) await resync(agent, '/resync?full=true&compare=false');
  const beside = await finished;
  console.log(
    `guest of 50 requests a second on ${volume} of a slow disk, disk0 is copied: p99 ${alone.p99Ms.toFixed(1)} ms alone, ${beside.p99Ms.toFixed(1)} ms beside resyncs of ${guestLoad.rate.toFixed(0)} MiB/s: ${(beside.p99Ms / alone.p99Ms).toFixed(2)}x`,
  );
}

function turning(disk: QueuedDisk, bytes: number): ScriptedDevice {
  // What is not written reads as zeroes, and nobody is told.
  const device = new ScriptedDevice(bytes, { contexts: [] });
  disk.carry(device);
  return device;
}

/** Runs this again where the loopback is a link of 1 Gbit/s. */
async function inShapedNamespace(args: readonly string[]): Promise<number> {
  const shape = 'ip link set lo up && tc qdisc add dev lo root tbf rate 1gbit burst 256k latency 50ms && exec "$@"';
  const child = spawn(
    'unshare',
    ['--net', 'sh', '-c', shape, 'sh', process.execPath, ...process.execArgv, process.argv[1] ?? '', ...args],
    { stdio: 'inherit', env: { ...process.env, [SHAPED]: '1' } },
  );
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}

async function main(scope: Scope): Promise<number> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      link: { type: 'string', default: 'loopback' },
      guest: { type: 'boolean', default: false },
    },
  });
  const isShaped = process.env[SHAPED] === '1';
  if (values.link === '1gbit' && !isShaped) return await inShapedNamespace(process.argv.slice(2));
  if (!values.guest) await againstNbdcopy(scope, Number(values.rounds), isShaped);
  if (!isShaped) {
    if (!values.guest) await delta(scope);
    await guestBeside(scope);
    await guestOnSlowDisk(scope, 'disk0');
    await guestOnSlowDisk(scope, 'disk1');
  }
  return 0;
}

const scope = new Scope();
try {
  process.exitCode = await main(scope);
} finally {
  await scope.close();
}
