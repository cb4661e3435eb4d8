/** The report of a failover test: one object for JSON, and a short table for people. Pure. */
import { formatDuration } from '@rephub/command';
import { checkVerdict, type CheckResult, shownRto, testVerdict, type Verdict } from './verdict.js';

export interface TestReport {
  readonly group: string;
  readonly test: string | null;
  readonly at: string;
  readonly point: { readonly seq: number; readonly time: string; readonly ageSeconds: number } | null;
  /** Of the group at the moment the point was opened; null when unknown. */
  readonly rpoSeconds: number | null;
  readonly rpoAtLeastSeconds: number | null;
  /** How the group was protected at that moment, and why; null when nothing was opened. */
  readonly state: string | null;
  readonly reason: string | null;
  readonly rtoSeconds: number | null;
  readonly checks: readonly (CheckResult & { readonly verdict: Verdict })[];
  readonly trouble: string | null;
  readonly verdict: Verdict;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** True: the test stays open. */
  readonly kept: boolean;
}

export function buildReport(
  parts: Omit<TestReport, 'rtoSeconds' | 'verdict' | 'checks'> & { readonly checks: readonly CheckResult[] },
): TestReport {
  return {
    ...parts,
    rtoSeconds: shownRto(parts.checks),
    checks: parts.checks.map((check) => ({ ...check, verdict: checkVerdict(check) })),
    verdict: testVerdict(parts.checks, parts.trouble),
  };
}

const SHOWN_LINES = 5;

/** For a terminal; ends with the verdict. */
export function reportText(report: TestReport): string {
  const rows: (readonly [string, string])[] = [
    ['group', report.group],
    ['point', report.point === null ? 'none was opened' : `number ${report.point.seq} of ${report.point.time}`],
    ['age (RPO)', rpoText(report)],
    ...(report.state === null ? [] : [['state then', `${report.state} (${report.reason ?? ''})`] as const]),
    ['first good check (RTO)', report.rtoSeconds === null ? 'none' : `${report.rtoSeconds.toFixed(2)} s`],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  const lines = rows.map(([label, value]) => `${label.padEnd(width)}  ${value}`);
  for (const check of report.checks) {
    lines.push(
      '',
      `check: ${check.command}`,
      `  ${check.verdict}, ${endText(check)} after ${check.seconds.toFixed(2)} s`,
    );
    for (const line of check.lastLines.slice(-SHOWN_LINES)) lines.push(`  | ${line}`);
  }
  lines.push('');
  if (report.trouble !== null) lines.push(`trouble: ${report.trouble}`);
  if (report.kept && report.test !== null) lines.push(`test ${report.test} stays open (--keep)`);
  if (report.point !== null && isOfThePast(report)) {
    const age = formatDuration(1000 * Math.max(report.point.ageSeconds, report.rpoAtLeastSeconds ?? 0));
    lines.push(`note: ${report.group} was not protected then: what its guest wrote in the last ${age} may be missing`);
  }
  lines.push(`verdict: ${report.verdict}`);
  return `${lines.join('\n')}\n`;
}

function rpoText(report: TestReport): string {
  if (report.point === null) return 'unknown';
  const { rpoSeconds, rpoAtLeastSeconds, point } = report;
  const atLeast = rpoAtLeastSeconds === null ? '' : `, at least ${formatDuration(1000 * rpoAtLeastSeconds)}`;
  const rpo = rpoSeconds === null ? `RPO unknown${atLeast}` : `RPO ${rpoSeconds.toFixed(2)} s`;
  return `last record ${formatDuration(1000 * point.ageSeconds)} ago, ${rpo}`;
}

/** The newest point may lack what its guest has written since: a test that passes proves only what was so then. */
function isOfThePast({ rpoSeconds, state }: TestReport): boolean {
  return rpoSeconds === null || (state !== 'protected' && state !== null);
}

function endText(check: CheckResult): string {
  return check.exitCode === null ? (check.ended ?? 'no exit code') : `exit ${check.exitCode}`;
}
