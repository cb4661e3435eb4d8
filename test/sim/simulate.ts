/** Runs the seeds that were asked for, one after the other, and tells what came of it. */
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigFault } from '@rephub/platform';
import { Coverage } from './coverage.js';
import { profileOf } from './profiles.js';
import { CHECKED, PROMISES } from './promises/index.js';
import { type Outcome, runScript } from './run.js';
import { type Script, scriptOf } from './script.js';
import { reportOf } from './report.js';
import { shrink } from './shrink.js';

export interface Asked {
  readonly seed: number | undefined;
  readonly seeds: string | undefined;
  readonly time: number | undefined;
  readonly from: number | undefined;
  readonly script: string | undefined;
  readonly profile: string | undefined;
  readonly trace: boolean;
  readonly shrink: boolean;
}

/** Below so many seeds nothing is expected to have come up. */
const LEAST_SEEDS = 60;

/** True when all promises were kept, and enough was reached. */
export async function simulate(asked: Asked, out: (text: string) => void): Promise<boolean> {
  const coverage = new Coverage();
  const begunMs = performance.now();
  const cpuBefore = process.cpuUsage();
  let failed: { readonly script: Script; readonly outcome: Outcome } | null = null;
  for await (const script of scriptsFor(asked, () => performance.now() - begunMs)) {
    const outcome = await runScript(script, asked.trace ? (line) => out(`${line}\n`) : null);
    coverage.add(outcome.coverage);
    if (asked.seed !== undefined) out(`seed ${script.setup.seed}: trace ${outcome.fingerprint}\n`);
    if (outcome.violation === null && outcome.error === null) continue;
    failed = { script, outcome };
    break;
  }
  const cpu = process.cpuUsage(cpuBefore);
  const missing =
    failed === null && asked.profile === undefined && coverage.seeds >= LEAST_SEEDS ? coverage.missing(CHECKED) : [];
  out(reportOf(coverage, (cpu.user + cpu.system) / 1e6, PROMISES, failed === null ? 0 : 1));
  for (const what of missing) out(`not reached: ${what}\n`);
  if (failed === null) return missing.length === 0;
  tellFailure(failed.script, failed.outcome, asked, out);
  if (asked.shrink) await shrinkAndTell(failed.script, failed.outcome, out);
  return false;
}

async function* scriptsFor(asked: Asked, elapsedMs: () => number): AsyncGenerator<Script> {
  const profile = profileOf(asked.profile);
  if (asked.script !== undefined) {
    yield JSON.parse(await readFile(asked.script, 'utf8')) as Script;
    return;
  }
  if (asked.seed !== undefined) {
    yield scriptOf(asked.seed, profile);
    return;
  }
  if (asked.seeds !== undefined) {
    const [, from, to] = /^(\d+)\.\.(\d+)$/.exec(asked.seeds) ?? [];
    if (from === undefined || to === undefined || Number(from) > Number(to)) {
      throw new ConfigFault('bad-value', `--seeds: "${asked.seeds}" is not allowed, expected A..B, A at most B`);
    }
    for (let seed = Number(from); seed <= Number(to); seed += 1) yield scriptOf(seed, profile);
    return;
  }
  const timeMs = asked.time ?? 60_000;
  let seed = asked.from ?? Math.floor(Date.now() / 1000) % 1_000_000_000;
  while (elapsedMs() < timeMs) yield scriptOf(seed++, profile);
}

function tellFailure({ setup }: Script, outcome: Outcome, asked: Asked, out: (text: string) => void): void {
  const what = outcome.violation?.message ?? outcome.error?.stack ?? '';
  out(`\nthe last events:\n  ${outcome.newest.join('\n  ')}\n`);
  out(`\nFAILED: seed ${setup.seed} at ${outcome.endedMs.toFixed(1)} ms of virtual time\n${what}\n`);
  const biased = asked.profile === undefined ? '' : ` --profile ${asked.profile}`;
  // A file may hold fewer steps than its seed makes, or others.
  const again = asked.script === undefined ? `--seed ${setup.seed}${biased}` : `--script ${asked.script}`;
  out(`again: npm run sim -- ${again}\n`);
}

async function shrinkAndTell(script: Script, outcome: Outcome, out: (text: string) => void): Promise<void> {
  const shrunk = await shrink(script, outcome, (text) => out(`${text}\n`));
  const file = join(tmpdir(), `rephub-sim-${script.setup.seed}.json`);
  await writeFile(file, JSON.stringify(shrunk, null, 1));
  out(`\n${shrunk.steps.length} of ${script.steps.length} steps are enough:\n`);
  for (const { atMs, kind } of shrunk.steps) out(`  ${atMs} ms ${kind}\n`);
  out(`again: npm run sim -- --script ${file}\n`);
}
