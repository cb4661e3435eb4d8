/**
 * `npm run demo`: the whole job in about a minute, with embedded parts only. Upstream is a plain file, the guest is our
 * own NBD client, agent and hub are the built commands. At the end the two disks are compared by `cmp`, a
 * program that knows nothing of us; exits 1 when they differ or anything else went wrong.
 */
import { connectNbd, readBytes } from '@rephub/nbd';
import { nodePlatform } from '@rephub/platform/node';
import { SingleBar } from 'cli-progress';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Guest } from './guest.js';
import { COMMANDS, endAll, type Running, runProgram, startCommand } from './processes.js';

const MIB = 1024 * 1024;
const DISK_BYTES = 512 * MIB;
const OLD_DATA_BYTES = 96 * MIB;
const HOT_BYTES = 24 * MIB;
const WINDOW = '16MiB';

interface GroupStatus {
  readonly state: string;
  readonly reason: string;
  readonly rpoSeconds: number | null;
  readonly lagBytes: number | null;
  readonly seq: number;
  readonly durableSeq: number;
  readonly resync: { readonly bytesDone: number; readonly bytesTotal: number } | null;
  readonly lastResync: { readonly cause: string; readonly bytesSent: number } | null;
}

const platform = nodePlatform();

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function step(title: string): void {
  say(`\n\u001b[1m${title}\u001b[0m`);
}

function size(bytes: number): string {
  return bytes >= MIB ? `${(bytes / MIB).toFixed(1)} MiB` : `${(bytes / 1024).toFixed(1)} KiB`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

class Demo {
  readonly #dir: string;
  readonly #ports: readonly [number, number];
  #hub: Running | null = null;
  #agent: Running | null = null;

  constructor(dir: string, ports: readonly [number, number]) {
    this.#dir = dir;
    this.#ports = ports;
  }

  path(name: string): string {
    return join(this.#dir, name);
  }

  uri(socket: string, name: string): string {
    return `nbd+unix:///${encodeURIComponent(name)}?socket=${this.path(socket)}`;
  }

  async makeDisk(): Promise<void> {
    const file = await open(this.path('disk.raw'), 'w');
    await file.truncate(DISK_BYTES);
    const block = Buffer.alloc(MIB);
    for (let at = 0; at < OLD_DATA_BYTES; at += MIB) {
      block.fill(createHash('sha256').update(String(at)).digest());
      await file.write(block, 0, MIB, at * 2);
    }
    await file.close();
  }

  async startHub(): Promise<void> {
    const [link, http] = this.#ports;
    this.#hub = startCommand(COMMANDS.rephub, [
      ...['serve', '--data', this.path('hub'), '--retention', '0'],
      ...['--listen', `tcp://127.0.0.1:${link}`, '--http', `127.0.0.1:${http}`],
      ...['--nbd', `nbd+unix:///?socket=${this.path('hub.sock')}`],
    ]);
    await this.#until('the hub to serve', async () => {
      const answer = await fetch(`http://127.0.0.1:${http}/healthz`).catch(() => null);
      return answer?.ok === true;
    });
  }

  async startAgent(): Promise<void> {
    this.#agent = startCommand(COMMANDS.repagent, [
      ...['run', '--group', 'demo', '--volume', 'disk0', '--upstream', `file:${this.path('disk.raw')}`],
      ...['--listen', `nbd+unix:///?socket=${this.path('vm.sock')}`, '--hub', `tcp://127.0.0.1:${this.#ports[0]}`],
      ...['--state', this.path('state'), '--window', WINDOW],
    ]);
    await this.#until('the agent to serve', async () => {
      const found = await stat(this.path('vm.sock')).catch(() => null);
      return found !== null && (await this.agentStatus().catch(() => null)) !== null;
    });
  }

  async agentStatus(): Promise<GroupStatus> {
    const { code, output } = await runProgram(process.execPath, [
      COMMANDS.repagent,
      'status',
      '--state',
      this.path('state'),
      '--json',
    ]);
    if (code !== 0) throw new Error(`repagent status: ${output}`);
    return JSON.parse(output) as GroupStatus;
  }

  /** Shows a bar until the agent says that the group is protected. */
  async waitProtected(label: string): Promise<GroupStatus> {
    const bar = new SingleBar({
      format: `  ${label} [{bar}] {percentage}%`,
      barsize: 40,
      hideCursor: true,
      noTTYOutput: true,
      notTTYSchedule: 60_000,
    });
    bar.start(100, 0);
    try {
      return await this.#until(`${label} to end`, async () => {
        const status = await this.agentStatus();
        if (status.resync !== null && status.resync.bytesTotal > 0) {
          bar.update(Math.floor((100 * status.resync.bytesDone) / status.resync.bytesTotal));
        }
        if (status.state !== 'protected') return false;
        bar.update(100);
        return status;
      });
    } finally {
      bar.stop();
    }
  }

  async killHub(): Promise<void> {
    await this.#hub?.end('SIGKILL');
    this.#hub = null;
  }

  async stopAgent(): Promise<number | null> {
    return (await this.#agent?.end('SIGTERM')) ?? null;
  }

  async stopHub(): Promise<number | null> {
    return (await this.#hub?.end('SIGTERM')) ?? null;
  }

  async failoverTest(check: string): Promise<{ code: number; output: string }> {
    return await runProgram(process.execPath, [COMMANDS.failoverTest, 'demo', '--check', check], {
      REPHUB_HTTP: `127.0.0.1:${this.#ports[1]}`,
    });
  }

  async #until<T>(what: string, probe: () => Promise<T | false>): Promise<T> {
    const deadline = performance.now() + 60_000;
    for (;;) {
      for (const [name, command] of [
        ['rephub', this.#hub],
        ['repagent', this.#agent],
      ] as const) {
        if (command !== null && command.child.exitCode !== null)
          throw new Error(`${name} has ended: ${command.said()}`);
      }
      const found = await probe();
      if (found !== false) return found;
      if (performance.now() > deadline) {
        throw new Error(
          `waited a minute for ${what}\nhub: ${this.#hub?.said() ?? ''}\nagent: ${this.#agent?.said() ?? ''}`,
        );
      }
      await sleep(50);
    }
  }
}

async function digest(uri: string): Promise<string> {
  const client = await connectNbd(platform, uri);
  const hash = createHash('sha256');
  for (let at = 0; at < client.sizeBytes; at += 4 * MIB) hash.update(await readBytes(client, at, 4 * MIB));
  await client.close();
  return hash.digest('hex').slice(0, 16);
}

async function story(demo: Demo): Promise<boolean> {
  step('1. A disk, a hub, an agent');
  await demo.makeDisk();
  await demo.startHub();
  await demo.startAgent();
  say(
    `  disk: ${size(DISK_BYTES)} sparse, ${size(OLD_DATA_BYTES)} of it written; the agent proxies it, the hub keeps a replica`,
  );
  const first = await demo.waitProtected('first sync');
  say(`  first sync sent ${size(first.lastResync?.bytesSent ?? 0)}: holes do not cross the link`);

  step('2. A guest writes, every write is mirrored');
  const guest = await Guest.connect(platform, demo.uri('vm.sock', 'disk0'), HOT_BYTES);
  guest.start();
  const begun = performance.now();
  await sleep(3_000);
  const during = await demo.agentStatus();
  say(
    `  ${Math.round((guest.writes * 1000) / (performance.now() - begun))} writes/s, ${size(guest.bytes)} so far; state ${during.state}, RPO ${during.rpoSeconds?.toFixed(3) ?? '?'} s`,
  );

  step('3. A point in time is opened while the guest goes on');
  const point = await Promise.all([digest(demo.uri('hub.sock', 'demo/disk0')), sleep(200)]);
  say(`  demo/disk0 read over NBD in the middle of the writes: sha256 ${point[0]}…`);

  step('4. The hub is killed; the guest notices nothing');
  await demo.killHub();
  guest.slowestMs = 0;
  const before = guest.writes;
  await sleep(3_000);
  const away = await demo.agentStatus();
  say(
    `  ${guest.writes - before} more writes while it was away, slowest ${guest.slowestMs.toFixed(1)} ms; state ${away.state}: ${away.reason}`,
  );
  say(
    `  not at the hub yet: ${size(away.lagBytes ?? 0)} of ${size(DISK_BYTES)}, RPO ${away.rpoSeconds?.toFixed(1) ?? '?'} s`,
  );

  step('5. The hub comes back: only what changed is sent again');
  await demo.startHub();
  const back = await demo.waitProtected('resync');
  const resent = back.lastResync?.bytesSent ?? Infinity;
  say(`  resync sent ${size(resent)}: ${((100 * resent) / DISK_BYTES).toFixed(1)} % of the disk`);

  step('6. A failover test, while protection goes on');
  const test = await demo.failoverTest('test -n "$REPHUB_TEST_URI"');
  say(test.output.trimEnd().replaceAll(/^/gm, '  '));

  step('7. Orderly end, and an independent comparison');
  await guest.pause();
  await guest.disconnect();
  const codes = [await demo.stopAgent(), await demo.stopHub()];
  say(
    `  the guest wrote ${guest.writes} times, ${size(guest.bytes)}; agent and hub stopped with exit codes ${codes.join(' and ')}`,
  );
  const replica = demo.path('hub/groups/demo/base/disk0.raw');
  const compared = await compare(demo.path('disk.raw'), replica);
  const used = await stat(replica);
  say(
    `  cmp disk.raw disk0.raw: ${compared ? 'equal' : 'DIFFERENT'} (replica takes ${size(used.blocks * 512)} of ${size(used.size)})`,
  );

  const verdicts: [string, boolean][] = [
    ['first sync was thin', (first.lastResync?.bytesSent ?? Infinity) <= OLD_DATA_BYTES * 1.05],
    ['resync sent only what changed', resent <= HOT_BYTES * 1.1],
    ['failover test passed', test.code === 0],
    ['agent and hub stopped in order', codes.every((code) => code === 0)],
    ['contents are equal', compared],
  ];
  say('');
  for (const [what, good] of verdicts) say(`  ${good ? 'yes' : 'NO '}  ${what}`);
  return verdicts.every(([, good]) => good);
}

/** By cmp where there is one, else byte by byte here: either way not by anything of agent or hub. */
async function compare(left: string, right: string): Promise<boolean> {
  try {
    return (await runProgram('cmp', [left, right])).code === 0;
  } catch {
    return (await readFile(left)).equals(await readFile(right));
  }
}

const dir = await mkdtemp(join(tmpdir(), 'rephub-demo-'));
try {
  const good = await story(new Demo(dir, [await freePort(), await freePort()]));
  say(good ? '\nDone: the replica is equal to the disk.' : '\nFailed: see above.');
  process.exitCode = good ? 0 : 1;
} catch (error) {
  say(`\nFailed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  endAll();
  await rm(dir, { recursive: true, force: true });
}
