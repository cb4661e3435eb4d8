/**
 * Turns what an agent reports of its verifications into events: each difference when it is first told, and how each
 * verification ended. Nothing here decides anything.
 *
 * Always holds: what was over when this hub first heard the agent is no news, an agent repeats its last report for as long
 * as it runs; only a difference is told even then, and when it was found. A difference counts as kept only when its event is
 * on the disk: until the agent has heard so, its next process tells it again.
 */
import {
  type AgentReport,
  describeVerify,
  type KeptFinding,
  outcomeOf,
  SAMPLE_CAUSE,
  type VerifyReport,
} from '@rephub/protocol';
import type { GroupCounters } from '../counters.js';
import type { Tell } from '../events/events.js';

/** Of so many reports it is remembered what was told of them. */
const MOST_REMEMBERED = 32;

interface Told {
  differBytes: number;
  isEnded: boolean;
  /** Is the newest event of its difference on the disk? */
  isKept: () => boolean;
}

export class VerifyWatch {
  readonly #group: string;
  readonly #tell: Tell;
  readonly #toldSoFar: () => () => boolean;
  readonly #counters: Pick<GroupCounters, 'differsBytes'>;
  readonly #told = new Map<string, Told>();
  /** Ids in the beat that was heard last. */
  #current: readonly string[] = [];
  #hasHeard = false;

  /** `toldSoFar` returns a question: are the events that were told until now on the disk? */
  constructor(
    group: string,
    tell: Tell,
    toldSoFar: () => () => boolean,
    counters: Pick<GroupCounters, 'differsBytes'>,
  ) {
    this.#group = group;
    this.#tell = tell;
    this.#toldSoFar = toldSoFar;
    this.#counters = counters;
  }

  /** A beat has come, with what it tells of verifications and the sample of the start; the same again says nothing. */
  heard({ verify, startSample, untold = [] }: Pick<AgentReport, 'verify' | 'startSample' | 'untold'>): void {
    // In the order in which they were found.
    for (const report of untold) this.#differs(report);
    if (verify !== undefined && verify !== null) this.#verified(verify);
    if (startSample !== undefined && startSample !== null && startSample.finishedAt !== null)
      this.#differs(startSample);
    this.#current = [...untold, verify, startSample].flatMap((report) => report?.id ?? []);
    this.#hasHeard = true;
  }

  /** What was told last of differences, as far as this hub will not forget it. */
  get kept(): KeptFinding[] {
    return this.#current.flatMap((id) => {
      const told = this.#told.get(id);
      return told?.isKept() === true ? [{ id, bytesDiffer: told.differBytes }] : [];
    });
  }

  #verified(report: VerifyReport): void {
    const isNews = !this.#told.has(report.id);
    const told = this.#of(report.id);
    if (isNews) told.isEnded = this.#wasOver(report);
    this.#differs(report);
    if (report.finishedAt === null || told.isEnded) return;
    told.isEnded = true;
    const outcome = outcomeOf(report);
    const level = outcome === 'same' ? 'info' : outcome === 'differs' ? 'error' : 'warn';
    const said = describeVerify(report, (bytes) => `${bytes} bytes`);
    this.#tell(level, 'verify-ended', said.slice(0, 8).join('; ').slice(0, 4000), { outcome, cause: report.cause });
  }

  #differs(report: VerifyReport): void {
    const told = this.#of(report.id);
    if (report.bytesDiffer <= told.differBytes) return;
    this.#counters.differsBytes += report.bytesDiffer - told.differBytes;
    told.differBytes = report.bytesDiffer;
    if (report.cause === SAMPLE_CAUSE) this.#tellSample(report);
    else this.#tellDifference(report);
    told.isKept = this.#toldSoFar();
  }

  #tellDifference(report: VerifyReport): void {
    const { bytesDiffer, cause } = report;
    const said = `replica and source of ${this.#group} differ in ${bytesDiffer} bytes${this.#when(report)}: ${placesOf(report)}`;
    this.#tell('error', 'verify-differs', said.slice(0, 4000), { bytes: bytesDiffer, cause });
  }

  /** The sample that an agent took at its start, to notice a disk that was changed behind its back. */
  #tellSample(report: VerifyReport): void {
    // Holes are compared in gigabytes and read by nobody: they say nothing of how large a part was looked at.
    const sampledBytes = report.bytesTotal - (report.bytesHoles ?? 0);
    const when = this.#when(report) || '; all is compared now';
    const said = `${report.bytesDiffer} of ${sampledBytes} sampled bytes of ${this.#group} are not what the replica holds: a disk was changed without its agent${when}: ${placesOf(report)}`;
    this.#tell('error', 'changed-behind', said.slice(0, 4000), { bytes: report.bytesDiffer, sampledBytes });
  }

  #of(id: string): Told {
    const known = this.#told.get(id);
    if (known !== undefined) return known;
    const told: Told = { differBytes: 0, isEnded: false, isKept: () => false };
    this.#told.set(id, told);
    const [oldest] = this.#told.keys();
    if (this.#told.size > MOST_REMEMBERED && oldest !== undefined) this.#told.delete(oldest);
    return told;
  }

  #wasOver(report: VerifyReport): boolean {
    return !this.#hasHeard && report.finishedAt !== null;
  }

  #when(report: VerifyReport): string {
    return this.#wasOver(report) ? `, as was found before this hub heard the agent, at ${report.finishedAt ?? ''}` : '';
  }
}

function placesOf({ differs }: VerifyReport): string {
  return differs.map(({ volume, offset, length }) => `${volume} ${length} at ${offset}`).join(', ');
}
