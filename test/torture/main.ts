/**
 * `npm run torture`: the whole with real processes, killed, stopped and cut at random, then compared.
 *
 *   npm run torture -- --time 10m              for so long (default 2m)
 *   npm run torture -- --seed 7                the decisions of that run again
 *   npm run torture -- --upstream nbdkit       qemu-nbd (default), nbdkit or file
 *   npm run torture -- --json                  the report as JSON, progress to stderr
 *
 * Exits 0 when nothing was violated, 1 otherwise: then the logs are kept and it says where.
 */
import { randomInt } from 'node:crypto';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatCount, formatDuration, formatSize, parseCount, parseDuration } from '@rephub/command';
import { Scope } from '../kit/scope.js';
import { UPSTREAMS } from './stage.js';
import { type Report, torture } from './torture.js';

function shown(report: Report): string {
  const lines = [
    `seed ${report.seed}, upstream ${report.upstream}, ${report.seconds} s, ${report.rounds} rounds`,
    ...Object.entries(report.blows).map(([kind, times]) => `  ${kind}: ${times}`),
    `verdicts: ${Object.entries(report.verdicts)
      .map(([verdict, times]) => `${verdict}: ${times}`)
      .join(', ')}`,
    `resumes ${report.resumes}, resyncs ${report.resyncs}, points judged ${report.pointsJudged}`,
    `guest: ${formatCount(report.guest.writes)} writes acknowledged, ${formatSize(report.guest.writtenBytes)}, ${formatCount(report.guest.reads)} reads, ` +
      `${report.guest.flushes} flushes (${report.guest.failedFlushes} failed), ${report.guest.connections} connections, ${report.guest.unknownWrites} writes unknown`,
    `fio: ${report.fio.runs} runs, ${formatSize(report.fio.writtenBytes)}; over the link: ${formatSize(report.linkBytes)}`,
    ...report.memory.map(
      ({ name, peakBytes, boundBytes }) => `memory of ${name}: ${formatSize(peakBytes)} of ${formatSize(boundBytes)}`,
    ),
    `came to rest in ${formatDuration(report.settledMs)}; upstream crashed by itself ${report.upstreamCrashes} times`,
    `violations: ${report.violations.length}`,
    ...report.violations.map((violation) => `  ${violation}`),
  ];
  return lines.join('\n');
}

async function main(scope: Scope): Promise<number> {
  const { values } = parseArgs({
    options: {
      time: { type: 'string', default: '2m' },
      seed: { type: 'string' },
      upstream: { type: 'string', default: 'qemu-nbd' },
      json: { type: 'boolean', default: false },
    },
  });
  const time = parseDuration(values.time);
  if (!('value' in time)) throw new Error(`--time ${values.time}: expected ${time.expected}`);
  const seed = values.seed === undefined ? { value: randomInt(2 ** 31) } : parseCount(values.seed);
  if (!('value' in seed)) throw new Error(`--seed ${values.seed ?? ''}: expected ${seed.expected}`);
  const upstream = UPSTREAMS.find((name) => name === values.upstream);
  if (upstream === undefined) throw new Error(`--upstream ${values.upstream}: expected one of ${UPSTREAMS.join(', ')}`);

  const tell = values.json ? console.error : console.log;
  const beganMs = performance.now();
  tell(`seed ${seed.value}`);
  const { report, logs } = await torture(scope, {
    seed: seed.value,
    timeMs: time.value,
    upstream,
    said: (what) => {
      tell(`${((performance.now() - beganMs) / 1000).toFixed(1).padStart(7)} s  ${what}`);
    },
  });
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else console.log(`\n${shown(report)}`);
  if (report.violations.length === 0) return 0;
  const file = join(await mkdtemp(join(tmpdir(), 'torture-')), 'logs');
  await writeFile(file, logs);
  tell(`what the processes said: ${file}`);
  return 1;
}

const scope = new Scope();
// A mount and many processes: interrupted, they go too.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void scope.close().finally(() => process.exit(1));
  });
}
try {
  process.exitCode = await main(scope);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
} finally {
  await scope.close();
}
