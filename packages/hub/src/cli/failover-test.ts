/**
 * `failover-test GROUP`: opens the latest point as a branch, runs the checks on its exports, says what they
 * prove, and drops the branch, whatever happens.
 */
import {
  badValue,
  command,
  type CommandContext,
  duration,
  EXIT,
  type ExitCode,
  exitCodeOf,
  flag,
  formatDuration,
  formatJson,
  name,
  optional,
  parseName,
  path,
  repeated,
  text,
  type ValuesOf,
  withDefault,
} from '@rephub/command';
import { connectNbd, readBytes } from '@rephub/nbd';
import { asError, ConfigFault } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { checkEnvironment, preferredUri, sharedVariables } from '../failover-test/environment.js';
import { buildReport, reportText, type TestReport } from '../failover-test/report.js';
import { type CheckResult, type Verdict, VERDICT_EXIT_CODES } from '../failover-test/verdict.js';
import { hubOption } from './api.js';
import { refuseUnwritable, writeReport } from './report-file.js';
import { runCheck } from './run-check.js';
import { type OpenedTest, TestSession } from './test-session.js';

const options = {
  ...hubOption,
  at: withDefault(text('a point'), 'latest', { placeholder: 'POINT', help: 'which moment; today only latest' }),
  name: optional(name(), { placeholder: 'NAME', help: 'of the test, part of its exports’ names' }),
  check: repeated(text('a shell command'), {
    placeholder: 'CMD',
    help: 'run by sh with REPHUB_TEST_URI set; without any, the ends of each volume are read',
  }),
  boot: flag({ help: 'start the VM on the test; not built yet' }),
  timeout: withDefault(duration({ min: 100 }), '120s', {
    placeholder: 'TIME',
    help: 'a check that has not finished by then is ended and has failed',
  }),
  report: optional(path(), { placeholder: 'FILE.json', help: 'write the report there', inFile: false }),
  keep: flag({ help: 'leave the test open; rephub test drop ends it', inFile: false }),
  json: flag({ help: 'print the report as JSON', inFile: false }),
};
type Values = ValuesOf<typeof options>;

export const failoverTestCommand = command({
  name: '',
  summary: 'Proves that a group can be recovered: opens it as a branch, runs checks on it, drops the branch.',
  arguments: [{ name: 'GROUP', help: 'the group' }],
  options,
  examples: [
    'failover-test vm1 --check \'qemu-img check -f qcow2 "$REPHUB_TEST_URI"\'',
    "failover-test vm1 --check './boot-and-ask.sh' --timeout 5m --report vm1.json",
  ],
  check: refuseWhatIsNotBuilt,
  run: failoverTest,
});

function refuseWhatIsNotBuilt(values: Values): void {
  if (values.boot) throw new ConfigFault('not-built', '--boot is not built yet; use --check with a command that boots');
  if (values.at !== 'latest') {
    throw new ConfigFault('not-built', `--at: "${values.at}" cannot be opened yet, only latest is built`);
  }
  if (values.report !== undefined && !values.report.endsWith('.json')) {
    throw new ConfigFault('not-built', `--report: "${values.report}": only FILE.json is built yet, no .xml or .html`);
  }
}

/** What came of a test, as far as it got. */
interface Course {
  readonly checks: CheckResult[];
  /** Null until the hub has opened it. */
  opened: OpenedTest | null;
  /** Why no verdict can be given; null: nothing went wrong but what checks said. */
  trouble: string | null;
  kept: boolean;
}

async function failoverTest(values: Values, context: CommandContext): Promise<ExitCode> {
  const group = groupOf(context);
  if (values.report !== undefined) await refuseUnwritable(values.report);
  const startedAt = new Date().toISOString();
  const course: Course = { checks: [], opened: null, trouble: null, kept: false };
  const { signal } = interruptible();
  try {
    await runTest(values, context, group, course, signal);
  } catch (thrown) {
    // What was asked for cannot be: that says nothing of the replica.
    if (course.opened === null && exitCodeOf(thrown) === EXIT.wrongUsage) throw thrown;
    course.trouble = asError(thrown).message;
  }
  if (signal.aborted) course.trouble = 'interrupted';
  const { opened, kept } = course;
  const report = reportOf(values, group, course, startedAt);
  context.out(values.json ? formatJson(report) : reportText(report));
  if (kept && opened !== null && !values.json) {
    for (const entry of opened.exports) context.out(`  ${entry.volume}: ${entry.uris.join(' ')}\n`);
    context.out(`rephub test drop ${group} ${opened.test.name} ends it\n`);
  }
  const unwritten = values.report === undefined ? null : await writeReport(values.report, formatJson(report));
  if (unwritten === null) return exitCode(report.verdict);
  context.err(`failover-test: ${unwritten}; the verdict is as printed\n`);
  // What was asked for is not all there: only a verdict that is worse counts for more.
  return report.verdict === 'passed' ? EXIT.tryAgain : exitCode(report.verdict);
}

/** Opens the test, runs the checks, keeps or drops it. `course` says how far it came also when this throws. */
async function runTest(
  values: Values,
  context: CommandContext,
  group: string,
  course: Course,
  signal: AbortSignal,
): Promise<void> {
  const began = performance.now();
  const sinceStartMs = (): number => performance.now() - began;
  const session = await TestSession.open(values.http, context, { group, name: values.name });
  const { opened } = session;
  course.opened = opened;
  const { test } = opened;
  const age = formatDuration(opened.pointAgeSeconds * 1000);
  context.err(`test ${test.name} of ${group} is open at number ${test.seq} of ${test.pointTime}, ${age} ago\n`);
  try {
    if (values.check.length === 0) {
      if (!signal.aborted) course.checks.push(await readEnds(opened, values.timeout, sinceStartMs));
    } else {
      tellSharedVariables(opened, context);
      const environment = checkEnvironment({ group, ...test, exports: opened.exports });
      for (const line of values.check) {
        if (signal.aborted) break;
        const order = { command: line, environment, timeoutMs: values.timeout, signal, sinceStartMs };
        course.checks.push(await runCheck(order));
      }
    }
    if (!signal.aborted) await session.look();
    course.trouble = session.trouble;
  } finally {
    course.kept = values.keep && !signal.aborted;
    if (course.kept) await session.keep();
    else await session.drop();
  }
}

function tellSharedVariables(opened: OpenedTest, context: CommandContext): void {
  for (const { variable, volumes } of sharedVariables(opened.exports)) {
    const names = volumes.join(' and ');
    context.err(`${variable} would be of ${names} at once, so it is not set; REPHUB_TEST_URIS has the URIs of all\n`);
  }
}

function reportOf(
  { at }: Values,
  group: string,
  { checks, kept, opened, trouble }: Course,
  startedAt: string,
): TestReport {
  return buildReport({
    group,
    test: opened?.test.name ?? null,
    at,
    point:
      opened === null
        ? null
        : { seq: opened.test.seq, time: opened.test.pointTime, ageSeconds: opened.pointAgeSeconds },
    rpoSeconds: opened?.rpoSeconds ?? null,
    rpoAtLeastSeconds: opened?.rpoAtLeastSeconds ?? null,
    state: opened?.state ?? null,
    reason: opened?.reason ?? null,
    checks,
    trouble,
    startedAt,
    finishedAt: new Date().toISOString(),
    kept,
  });
}

function groupOf(context: CommandContext): string {
  const given = context.arguments[0] ?? '';
  const parsed = parseName(given);
  if ('value' in parsed) return parsed.value;
  throw badValue('GROUP', given, parsed.expected);
}

function exitCode(verdict: Verdict): ExitCode {
  const code = VERDICT_EXIT_CODES[verdict];
  return code === 0 ? EXIT.done : code === 1 ? EXIT.failed : EXIT.tryAgain;
}

/** The check that is made when none was given: each volume opens, and its first and last block can be read. */
async function readEnds(opened: OpenedTest, timeoutMs: number, sinceStartMs: () => number): Promise<CheckResult> {
  const beganMs = sinceStartMs();
  const lines: string[] = [];
  let exitCode = 0;
  for (const { volume, uris } of opened.exports) {
    try {
      const uri = preferredUri(uris);
      if (uri === null) throw new Error('no address');
      const client = await connectNbd(nodePlatform(), uri, { timeoutMs, requestTimeoutMs: timeoutMs });
      try {
        const length = Math.min(4096, client.sizeBytes);
        await readBytes(client, 0, length);
        await readBytes(client, client.sizeBytes - length, length);
        lines.push(`${volume}: ${client.sizeBytes} bytes, both ends read`);
      } finally {
        await client.close();
      }
    } catch (thrown) {
      exitCode = 1;
      lines.push(`${volume}: ${asError(thrown).message}`);
    }
  }
  const sinceMs = sinceStartMs();
  return {
    command: '(built in) open each volume and read its first and last block',
    exitCode,
    ended: null,
    seconds: (sinceMs - beganMs) / 1000,
    sinceStartSeconds: sinceMs / 1000,
    lastLines: lines,
  };
}

/** The first SIGINT or SIGTERM ends the check and drops the test; a second one ends the process, and the lease drops the test. */
function interruptible(): AbortController {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(EXIT.tryAgain);
    controller.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller;
}
