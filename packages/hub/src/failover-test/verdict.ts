/**
 * What a failover test concludes from its checks: passed, failed, or could not tell. Pure.
 *
 * Always holds: passed only when every check ran to its end and said so; one that could not run, was
 * interrupted or could not tell itself (exit 75) never counts as a failure of the replica.
 */

export interface CheckResult {
  readonly command: string;
  /** Null when it was ended by a signal or could not be started. */
  readonly exitCode: number | null;
  /** How it ended otherwise: `timeout`, `interrupted`, a signal's name, or why it could not start. */
  readonly ended: string | null;
  readonly seconds: number;
  /** From the test's beginning to this check's end. */
  readonly sinceStartSeconds: number;
  /** The last lines of its output, stdout and stderr as they came. */
  readonly lastLines: readonly string[];
}

export type Verdict = 'passed' | 'failed' | 'could not tell';

export const VERDICT_EXIT_CODES: Readonly<Record<Verdict, number>> = { passed: 0, failed: 1, 'could not tell': 75 };

/** What a check says of the replica. One that has not finished in its time has failed: recovery must be quick. */
export function checkVerdict(check: CheckResult): Verdict {
  if (check.exitCode === 0) return 'passed';
  if (check.ended === 'timeout') return 'failed';
  if (check.exitCode === null) return 'could not tell';
  // 126 and 127 are the shell's: not executable, not found.
  return [75, 126, 127].includes(check.exitCode) ? 'could not tell' : 'failed';
}

/** Of the whole test; `trouble` is what went wrong outside the checks (hub gone, test over). */
export function testVerdict(checks: readonly CheckResult[], trouble: string | null): Verdict {
  const verdicts = checks.map(checkVerdict);
  if (verdicts.includes('failed')) return 'failed';
  if (trouble !== null || checks.length === 0 || verdicts.includes('could not tell')) return 'could not tell';
  return 'passed';
}

/** Time from the beginning to the first check that passed, in seconds: the RTO that was shown. Null: none did. */
export function shownRto(checks: readonly CheckResult[]): number | null {
  return checks.find((check) => checkVerdict(check) === 'passed')?.sinceStartSeconds ?? null;
}
