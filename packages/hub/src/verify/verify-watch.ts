/**
 * Turns what an agent reports of its verifications into events: each difference when it is first told, and how each
 * verification ended. Nothing here decides anything.
 *
 * Always holds: what was over when this hub first heard the agent is no news, an agent repeats its last report for as long
 * as it runs; only a difference is told even then, and when it was found.
 */
import { describeVerify, outcomeOf, type VerifyReport } from '@rephub/protocol';
import type { Tell } from '../hub/events.js';

export class VerifyWatch {
  readonly #group: string;
  readonly #tell: Tell;
  #id: string | null = null;
  #differBytes = 0;
  #isEnded = false;
  #sampleId: string | null = null;
  #hasHeard = false;

  constructor(group: string, tell: Tell) {
    this.#group = group;
    this.#tell = tell;
  }

  /** A beat has come, with the verification and the sample of the start that it tells of; the same ones again say nothing. */
  heard(verification: VerifyReport | null | undefined, sample: VerifyReport | null | undefined): void {
    this.#seen(verification);
    this.#sampled(sample);
    this.#hasHeard = true;
  }

  #seen(report: VerifyReport | null | undefined): void {
    if (report === null || report === undefined) return;
    if (report.id !== this.#id) {
      this.#id = report.id;
      this.#differBytes = 0;
      this.#isEnded = this.#wasOver(report);
    }
    if (report.bytesDiffer > this.#differBytes) {
      const places = report.differs.map(({ volume, offset, length }) => `${volume} ${length} at ${offset}`);
      this.#tell(
        'error',
        'verify-differs',
        `replica and source of ${this.#group} differ in ${report.bytesDiffer} bytes${this.#when(report)}: ${places.join(', ')}`.slice(
          0,
          4000,
        ),
        { bytes: report.bytesDiffer, cause: report.cause },
      );
      this.#differBytes = report.bytesDiffer;
    }
    if (report.finishedAt === null || this.#isEnded) return;
    this.#isEnded = true;
    const outcome = outcomeOf(report);
    const level = outcome === 'same' ? 'info' : outcome === 'differs' ? 'error' : 'warn';
    const said = describeVerify(report, (bytes) => `${bytes} bytes`);
    this.#tell(level, 'verify-ended', said.slice(0, 8).join('; ').slice(0, 4000), { outcome, cause: report.cause });
  }

  /** The sample that an agent took at its start, to notice a disk that was changed behind its back. */
  #sampled(report: VerifyReport | null | undefined): void {
    if (report === null || report === undefined || report.finishedAt === null || report.id === this.#sampleId) return;
    this.#sampleId = report.id;
    if (report.bytesDiffer === 0) return;
    // Holes are compared in gigabytes and read by nobody: they say nothing of how large a part was looked at.
    const sampledBytes = report.bytesTotal - (report.bytesHoles ?? 0);
    const places = report.differs.map(({ volume, offset, length }) => `${volume} ${length} at ${offset}`);
    this.#tell(
      'error',
      'changed-behind',
      `${report.bytesDiffer} of ${sampledBytes} sampled bytes of ${this.#group} are not what the replica holds: a disk was changed without its agent${this.#when(report) || '; all is compared now'}: ${places.join(', ')}`.slice(
        0,
        4000,
      ),
      { bytes: report.bytesDiffer, sampledBytes },
    );
  }

  #wasOver(report: VerifyReport): boolean {
    return !this.#hasHeard && report.finishedAt !== null;
  }

  #when(report: VerifyReport): string {
    return this.#wasOver(report) ? `, as was found before this hub heard the agent, at ${report.finishedAt ?? ''}` : '';
  }
}
