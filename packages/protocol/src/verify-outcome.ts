/** What a verification came to, for people and exit codes: three values, never two. Pure. */
import { type VerifyReport, type VolumeVerify } from './messages.js';

/** The cause in the report of a sample that an agent took at its start. */
export const SAMPLE_CAUSE = 'sample at start';

export type VerifyOutcome = 'same' | 'differs' | 'could-not-tell';

/** `same` only when it has ended and all of it was told to be the same. */
export function outcomeOf(report: VerifyReport): VerifyOutcome {
  if (report.bytesDiffer > 0) return 'differs';
  const told = report.bytesSame + report.bytesDiffer;
  return report.finishedAt !== null && report.bytesUnknown === 0 && told >= report.bytesTotal
    ? 'same'
    : 'could-not-tell';
}

/** Places named in a line; the report has more. */
const MOST_NAMED = 8;

/** By how much a reader wants to know it: what differs comes first. */
const ORDER: readonly VerifyOutcome[] = ['differs', 'could-not-tell', 'same'];

/** One verdict for each volume, the bad ones first; for all together where the agent does not tell them apart. `bytes` writes a size. */
export function describeVerify(report: VerifyReport, bytes: (count: number) => string): string[] {
  const { bytesTotal, bytesSame, bytesDiffer, bytesUnknown, reason } = report;
  const all: VolumeVerify = { name: 'all volumes', bytesTotal, bytesSame, bytesDiffer, bytesUnknown, reason };
  const isApart = (report.volumes ?? []).length > 0;
  const volumes = (isApart ? (report.volumes ?? []) : [all]).map((volume) => ({ volume, outcome: outcomeIn(volume) }));
  const lines = ORDER.flatMap((wanted) =>
    volumes
      .filter(({ outcome }) => outcome === wanted)
      .map(({ volume, outcome }) => {
        const places = report.differs.filter((place) => !isApart || place.volume === volume.name);
        return `${volume.name}: ${verdictOf(volume, outcome, isApart, places, bytes)}`;
      }),
  );
  const holes = report.bytesHoles ?? 0;
  if (holes > 0) lines.push(`holes on both sides, which nobody had to read: ${bytes(holes)}`);
  return lines;
}

function outcomeIn({ bytesTotal, bytesSame, bytesDiffer, bytesUnknown }: VolumeVerify): VerifyOutcome {
  if (bytesDiffer > 0) return 'differs';
  return bytesUnknown === 0 && bytesSame >= bytesTotal ? 'same' : 'could-not-tell';
}

function verdictOf(
  { bytesTotal, bytesSame, bytesDiffer, bytesUnknown, reason }: VolumeVerify,
  outcome: VerifyOutcome,
  isApart: boolean,
  places: VerifyReport['differs'],
  bytes: (count: number) => string,
): string {
  if (outcome === 'same') return `same, ${bytes(bytesTotal)}`;
  const untold = Math.max(bytesUnknown, bytesTotal - bytesSame - bytesDiffer);
  const why = reason === null ? '' : `: ${reason}`;
  if (outcome === 'could-not-tell') return `could not tell, ${bytes(untold)} of ${bytes(bytesTotal)}${why}`;
  const first = places.slice(0, MOST_NAMED);
  const named = first.map(({ volume, offset, length }) => `${isApart ? '' : `${volume} `}${length} at ${offset}`);
  const more = first.reduce((left, { length }) => left - length, bytesDiffer);
  const where = [...named, ...(more > 0 ? [`${more} elsewhere`] : [])].join(', ');
  const rest = untold > 0 ? `; ${bytes(untold)} could not be told${why}` : '';
  return `differs, ${bytes(bytesDiffer)} of ${bytes(bytesTotal)}, marked and sent again (bytes: ${where})${rest}`;
}
