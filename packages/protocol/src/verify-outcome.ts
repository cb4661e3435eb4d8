/** What a verification came to, for people and exit codes: three values, never two. Pure. */
import { type VerifyReport } from './messages.js';

/** The cause in the report of a sample that an agent took at its start. */
export const SAMPLE_CAUSE = 'sample at start';

export type VerifyOutcome = 'same' | 'differs' | 'could-not-tell';

export function outcomeOf(report: VerifyReport): VerifyOutcome {
  if (report.bytesDiffer > 0) return 'differs';
  const told = report.bytesSame + report.bytesDiffer;
  return report.finishedAt !== null && report.bytesUnknown === 0 && told >= report.bytesTotal
    ? 'same'
    : 'could-not-tell';
}

/** One sentence for each thing that there is to say. `bytes` writes a size. */
export function describeVerify(report: VerifyReport, bytes: (count: number) => string): string[] {
  const { bytesTotal, bytesSame, bytesDiffer, bytesUnknown, differs, reason } = report;
  const bytesHoles = report.bytesHoles ?? 0;
  const holes = bytesHoles === 0 ? '' : ` (${bytes(bytesHoles)} of them holes)`;
  const lines = [`${bytes(bytesSame)} of ${bytes(bytesTotal)} are the same on both sides${holes}`];
  if (bytesDiffer > 0) lines.push(`${bytes(bytesDiffer)} differ; they are marked and sent again`);
  for (const { volume, offset, length } of differs) lines.push(`differs: ${volume}, ${length} bytes at ${offset}`);
  if (bytesUnknown > 0) lines.push(`${bytes(bytesUnknown)} could not be told${reason === null ? '' : `: ${reason}`}`);
  return lines;
}
