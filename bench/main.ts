/**
 * `npm run bench`: our commands side by side with others', in one run, on one machine.
 *
 *   npm run bench -- --quick                 shorter runs, fewer rounds
 *   npm run bench -- --only 'repagent|nbdkit'  only subjects whose name matches it, a regular expression (and QEMU's mirror)
 *   npm run bench -- --profile randwrite     only loads whose name contains it
 *
 * Subjects take turns (A B A B), medians are compared, absolute figures move from run to run. A replicated run counts only if it
 * was: nothing pulled ahead, everything durable within a second of the end, contents equal. Exits 1 when none counts.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { load } from '../test/kit/load.js';
import { Scope } from '../test/kit/scope.js';
import { describeMachine, type Memory, quiet } from './machine.js';
import { onlyReads, PROFILES, type Profile } from './profiles.js';
import { comparison, figureOf, memoryTable, proofs, type Results, type Run } from './results.js';
import { startSubjects, type Subject } from './subjects.js';

const SIZE_BYTES = 1 << 30;
const REFERENCE = 'QEMU active mirror to memory';
const ON_DISK = ['QEMU active mirror to a file', 'the same, past the page cache'];
const OURS = 'repagent and rephub';

async function measure(
  subject: Subject,
  profile: Profile,
  round: number,
  seconds: number,
  busy: readonly number[],
): Promise<Run> {
  await quiet(busy);
  await subject.replication?.before();
  const figures = await load(subject.uri, { ...profile, sizeBytes: SIZE_BYTES, seconds, seed: round });
  const proof = onlyReads(profile) ? null : ((await subject.replication?.after()) ?? null);
  const iops = figures.readIops + figures.writeIops;
  const figure = profile.unit === 'IOPS' ? iops : (figures.readBytesPerSecond + figures.writeBytesPerSecond) / 2 ** 20;
  return { subject: subject.name, profile: profile.name, round, figure, p99Ms: figures.p99Ms, proof };
}

async function main(scope: Scope): Promise<number> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      profile: { type: 'string', default: '' },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
    },
  });
  const seconds = Number(values.seconds ?? (values.quick ? 3 : 8));
  const rounds = Number(values.rounds ?? (values.quick ? 2 : 3));
  const profiles = PROFILES.filter(({ name }) => name.includes(values.profile));

  const machine = await describeMachine(scope, values.quick ? 3 : 8);
  console.log(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, Node ${machine.node}`,
  );
  if (machine.loadAverage > 0.5)
    console.log(`NOT QUIET: load average ${machine.loadAverage.toFixed(2)} before the start`);
  console.log(
    `disk: ${machine.diskWriteMiBPerSecond} MiB/s written and synced, ${machine.diskSyncMicroseconds} µs to sync 4 KiB`,
  );

  const { subjects: everybody, absent } = await startSubjects(scope, SIZE_BYTES);
  const subjects = everybody.filter(
    ({ name }) => new RegExp(values.only).test(name) || name === REFERENCE || ON_DISK.includes(name),
  );
  const busy = everybody.flatMap(({ pids }) => pids);
  for (const name of absent) console.log(`not measured: ${name}`);
  // Memory that was never written is made while it is first written: not what is to be measured.
  for (const subject of subjects) {
    await load(subject.uri, { pattern: 'write', blockBytes: 1 << 20, depth: 4, sizeBytes: SIZE_BYTES });
  }

  const runs: Run[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const profile of profiles) {
      for (const subject of subjects) {
        const run = await measure(subject, profile, round, seconds, busy);
        runs.push(run);
        const proof =
          run.proof === null
            ? ''
            : run.proof.counts
              ? ` (durable after ${run.proof.settledMs} ms)`
              : ` DOES NOT COUNT: ${run.proof.why}`;
        console.log(
          `round ${round}: ${profile.name}: ${subject.name}: ${run.figure.toFixed(0)} ${profile.unit}, p99 ${run.p99Ms.toFixed(2)} ms${proof}`,
        );
      }
    }
  }

  const memory: Record<string, Readonly<Record<string, Memory>>> = {};
  for (const subject of subjects) if (subject.memory !== undefined) memory[subject.name] = await subject.memory();
  const results: Results = {
    when: new Date().toISOString(),
    quick: values.quick,
    secondsPerRun: seconds,
    machine,
    runs,
    memory,
    absent,
  };
  const folder = join(import.meta.dirname, 'results');
  await mkdir(folder, { recursive: true });
  const file = join(folder, `${results.when.replaceAll(':', '-').slice(0, 19)}.json`);
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`);

  console.log(`\nmedians of ${rounds} rounds of ${seconds} s; ratio to ${REFERENCE}\n`);
  console.log(comparison(runs, profiles, REFERENCE));
  console.log(`\n${proofs(runs)}\n\n${memoryTable(memory)}\n\nwritten to ${file}`);
  const wanted = subjects.some(({ name }) => name === OURS) ? profiles.filter((profile) => !onlyReads(profile)) : [];
  return wanted.every(({ name }) => !Number.isNaN(figureOf(runs, OURS, name))) ? 0 : 1;
}

const scope = new Scope();
try {
  process.exitCode = await main(scope);
} finally {
  await scope.close();
}
