/**
 * One run: real processes under load, blows from a seed for a given time, then everything is healed and judged, by other
 * makers' tools where contents are compared.
 */
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SeededRandomness } from '@rephub/platform/sim';
import { command } from '../kit/commands.js';
import { type Comparison, compareByQemu, compareFiles, copyOf } from '../kit/contents.js';
import { run } from '../kit/process.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { type LogLine, type Memory, MemoryWatch } from './actors.js';
import { type Acts, Blows, type Kind } from './blows.js';
import { FioGuest } from './fio-guest.js';
import { JudgedWriter, type WriterFigures } from './judged-writer.js';
import { BLOCK_BYTES, Ledger } from './ledger.js';
import { GROUP, JUDGED, JUDGED_BYTES, OTHER, setStage, type Stage, type UpstreamKind } from './stage.js';

export interface TortureOptions {
  readonly seed: number;
  readonly timeMs: number;
  readonly upstream: UpstreamKind;
  /** Outages and pauses are so many times shorter; 1 when left out. */
  readonly haste?: number;
  /** Told what happens, as it does. */
  readonly said: (what: string) => void;
}

export interface Report {
  readonly seed: number;
  readonly upstream: UpstreamKind;
  readonly seconds: number;
  /** How often every kind of blow had come. */
  readonly rounds: number;
  readonly blows: Readonly<Record<Kind, number>>;
  readonly verdicts: Readonly<Record<string, number>>;
  readonly resumes: number;
  readonly resyncs: number;
  readonly pointsJudged: number;
  readonly guest: WriterFigures;
  readonly fio: { readonly runs: number; readonly writtenBytes: number };
  /** Over the link, from the agent. */
  readonly linkBytes: number;
  readonly memory: readonly Memory[];
  readonly settledMs: number;
  /** Of upstream servers, which are not ours. */
  readonly upstreamCrashes: number;
  readonly violations: readonly string[];
}

export interface Outcome {
  readonly report: Report;
  /** What the processes said: for a look when something was violated. */
  readonly logs: string;
}

const MiB = 1 << 20;
/** Node itself takes 60 to 90 MiB. The agent's window is 4 MiB here, the hub's queue 16 MiB and its index 64 MiB. */
const AGENT_BOUND_BYTES = 320 * MiB;
const HUB_BOUND_BYTES = 512 * MiB;
const MODES = ['async', 'semi-sync', 'sync'] as const;
const SETTLES_WITHIN_MS = 120_000;
/** No power was cut and no disk rotted: none of these is in order, whoever was killed. */
const WRONG_VERDICTS = new Set(['compare-everything', 'first-sync', 'split-brain', 'superseded', 'refuse']);

export async function torture(scope: Scope, options: TortureOptions): Promise<Outcome> {
  const dice = new SeededRandomness(options.seed);
  const violations: string[] = [];
  const violated = (what: string): void => {
    options.said(`VIOLATION: ${what}`);
    if (violations.length < 100) violations.push(what);
  };
  const startedMs = performance.now();
  const retention = dice.chance() ? '0' : '1h';
  const stage = await setStage(scope, { upstream: options.upstream, retention, violated });
  const firstVerdicts = new Set(verdictsOf(stage));
  const memory = new MemoryWatch([
    { actor: stage.agentActor, boundBytes: AGENT_BOUND_BYTES },
    { actor: stage.hubActor, boundBytes: HUB_BOUND_BYTES },
  ]);
  const ledger = new Ledger(JUDGED_BYTES / BLOCK_BYTES, options.seed);
  const writer = new JudgedWriter({
    uri: stage.agent.uri(JUDGED),
    ledger,
    seed: options.seed + 1,
    requestsInFlight: 8,
    requestsPerSecond: 400,
    losses: () => {
      const told = stage.agentActor.events().filter(({ event }) => event === 'doubts-recalled');
      return told.filter(({ volume, flushErrorOwed }) => volume === JUDGED && flushErrorOwed === true).length;
    },
    violated,
  });
  const fio = await FioGuest.start(scope, stage, options.seed, violated);
  const points = { judged: 0 };
  const blows = new Blows({
    stage,
    dice,
    acts: await acts(scope, stage, ledger, points, violated),
    violated,
    haste: options.haste ?? 1,
    said: options.said,
  });
  await blows.rain(options.timeMs);
  await blows.heal();
  options.said('healed');
  await writer.stop();
  await fio.stop();

  const healedMs = performance.now();
  await settle(stage, violated);
  const settledMs = performance.now() - healedMs;
  options.said('settled');
  await judgeEnd(scope, stage, ledger, violated);
  const peaks = await memory.stop();
  for (const { name, peakBytes, boundBytes } of peaks)
    if (peakBytes > boundBytes) violated(`BOUND: ${name} took ${peakBytes >> 20} MiB, at most ${boundBytes >> 20} MiB`);
  await judgeStopped(stage, retention, violated);
  const verdicts = judgeVerdicts(stage, firstVerdicts, violated);
  stage.agentActor.judgeLog();
  stage.hubActor.judgeLog();

  const logs = [stage.agentActor, stage.hubActor, ...stage.upstreamActors].map(({ said }) => said).join('\n');
  const count = (kind: string): number =>
    Object.entries(verdicts).reduce((sum, [name, times]) => sum + (name.startsWith(kind) ? times : 0), 0);
  const report: Report = {
    seed: options.seed,
    upstream: options.upstream,
    seconds: Math.round((performance.now() - startedMs) / 1000),
    rounds: blows.rounds,
    blows: blows.counts,
    verdicts,
    resumes: count('resume '),
    resyncs: count('resync-by-bitmap '),
    pointsJudged: points.judged,
    guest: writer.figures,
    fio: { runs: fio.runs, writtenBytes: fio.writtenBytes },
    linkBytes: stage.proxy.passedBytes.up,
    memory: peaks,
    settledMs: Math.round(settledMs),
    upstreamCrashes: stage.upstreamActors.reduce((sum, { crashes }) => sum + crashes, 0),
    violations,
  };
  return { report, logs };
}

async function acts(
  scope: Scope,
  stage: Stage,
  ledger: Ledger,
  points: { judged: number },
  violated: (what: string) => void,
): Promise<Acts> {
  const dir = await tempDir(scope);
  const copy = join(dir, 'point.raw');
  const judgeCopy = async (what: string): Promise<void> => {
    for (const fault of ledger.judgePoint(await readFile(copy))) violated(`ORD: ${what}: ${fault}`);
    points.judged += 1;
    await rm(copy, { force: true });
  };
  const operator = async (allowed: readonly number[], verb: string, ...args: readonly string[]): Promise<void> => {
    const result = await command('repagent', [verb, '--state', stage.agent.stateDir, ...args]);
    if (result.code === null || !allowed.includes(result.code))
      violated(`repagent ${verb} ended with ${result.code ?? 'none'}: ${result.stdout}${result.stderr}`);
  };
  return {
    pause: async () => {
      await operator([0], 'pause');
    },
    resume: async () => {
      await operator([0], 'resume');
    },
    mode: async (which) => {
      await operator([0], 'mode', MODES[which % MODES.length] ?? 'async');
    },
    compare: async () => {
      await operator([0], 'resync', '--compare');
    },
    // Whatever is done to the hub and the link meanwhile: it may not be able to tell, but never finds a difference.
    verify: async () => {
      await operator([0, 75], 'verify');
    },
    resync: async () => {
      const { hub } = stage;
      const result = await command('rephub', ['resync', GROUP, '--full', '--yes', '--http', hub.http]);
      const absent = /not connected|was paused/.test(result.stderr);
      if (result.code !== 0 && !absent) violated(`rephub resync ended with ${result.code ?? 'none'}: ${result.stderr}`);
    },
    judgePoint: async () => {
      const tight = tightDisk(stage);
      const result = await run('nbdcopy', [stage.hub.uri(GROUP, JUDGED), copy], { timeoutMs: 60_000 });
      if (result.code === 0) await judgeCopy('the newest point');
      else if (!tight()) violated(`LASTGOOD: the newest point cannot be read: ${result.stderr}`);
    },
    failoverTest: async () => {
      const tight = tightDisk(stage);
      const check = `nbdcopy "$REPHUB_TEST_URI_${JUDGED}" '${copy}'`;
      const result = await command('failover-test', [GROUP, '--http', stage.hub.http, '--check', check]);
      if (result.code === 0) await judgeCopy('a failover test');
      else if (!tight())
        violated(`ISOLATE: failover-test ended with ${result.code ?? 'none'}: ${result.stdout}${result.stderr}`);
    },
  };
}

/** Whether the hub's disk was full at any time since: then points that are open may go, and tests end or do not begin (FULL). */
function tightDisk({ disk }: Stage): () => boolean {
  const { fills, isFull } = disk;
  return () => isFull || disk.isFull || disk.fills > fills;
}

/** Everything is up again: it must come to rest by itself. */
async function settle(stage: Stage, violated: (what: string) => void): Promise<void> {
  try {
    await stage.agent.waitUntilProtected(SETTLES_WITHIN_MS);
    await stage.hub.waitFor(GROUP, 'protected', ({ state }) => state === 'protected', SETTLES_WITHIN_MS);
  } catch (error) {
    violated(`did not come to rest: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function judgeComparison(what: string, { verdict, said }: Comparison, violated: (what: string) => void): void {
  if (verdict !== 'same') violated(`${what}: ${verdict}: ${said}`);
}

/** Contents: replica against disk by cmp and by qemu-img, the disk against the ledger, a failover test on the whole. */
async function judgeEnd(scope: Scope, stage: Stage, ledger: Ledger, violated: (what: string) => void): Promise<void> {
  for (const [name, file] of [
    [JUDGED, stage.files.judged],
    [OTHER, stage.files.other],
  ] as const) {
    const replica = stage.hub.uri(GROUP, name);
    judgeComparison(`${name}, by cmp`, await compareFiles(file, await copyOf(scope, replica)), violated);
    judgeComparison(`${name}, by qemu-img`, await compareByQemu(file, replica), violated);
  }
  const disk = await open(stage.files.judged);
  try {
    const bytes = Buffer.alloc(BLOCK_BYTES);
    for (let block = 0; block < ledger.blocks; block += 1) {
      await disk.read(bytes, 0, BLOCK_BYTES, block * BLOCK_BYTES);
      const fault = ledger.judgeNow(block, bytes);
      if (fault !== null) violated(`the disk: ${fault}`);
    }
  } finally {
    await disk.close();
  }
  const check = `qemu-img compare -f raw -F raw "$REPHUB_TEST_URI_${OTHER}" '${stage.files.other}'`;
  const result = await command('failover-test', [GROUP, '--http', stage.hub.http, '--check', check]);
  if (result.code !== 0) violated(`the last failover-test ended with ${result.code ?? 'none'}: ${result.stdout}`);
}

/** An orderly end: exit codes, and with retention 0 base images that are the disks. */
async function judgeStopped(stage: Stage, retention: string, violated: (what: string) => void): Promise<void> {
  await stage.agentActor.stop();
  await stage.hubActor.stop();
  for (const actor of stage.upstreamActors) await actor.stop();
  if (retention !== '0') return;
  for (const [name, file] of [
    [JUDGED, stage.files.judged],
    [OTHER, stage.files.other],
  ] as const) {
    judgeComparison(`base image of ${name}`, await compareFiles(file, stage.hub.baseFile(GROUP, name)), violated);
  }
}

function verdictsOf(stage: Stage): readonly string[] {
  return stage.agentActor.events().flatMap(verdictOf);
}

function verdictOf(line: LogLine): readonly string[] {
  return line.event === 'verdict' ? [`${String(line['verdict'])} ${String(line['row'])}`] : [];
}

/** Counts the rows of the lineage table; those of the first sync, which came before the first blow, may be what they are. */
function judgeVerdicts(
  stage: Stage,
  first: ReadonlySet<string>,
  violated: (what: string) => void,
): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const verdict of verdictsOf(stage)) counts[verdict] = (counts[verdict] ?? 0) + 1;
  for (const [verdict, times] of Object.entries(counts)) {
    const allowed = first.has(verdict) ? 1 : 0;
    if (times > allowed && WRONG_VERDICTS.has(verdict.split(' ')[0] ?? ''))
      violated(`NOFULL, LINEAGE: verdict ${verdict} came ${times} times`);
  }
  return counts;
}
