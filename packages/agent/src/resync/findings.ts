/**
 * Differences that were found and of which no hub has said yet that it keeps the event: in a note in the identity file, so
 * that the next process tells them when this one does not live to.
 *
 * Always holds: what `keep` was given is durable when it resolves, which is before it is marked, and so before any process
 * can repair it; it is told until a hub has said that its event is on its disk.
 * Must not know: how differences are found, beats.
 */
import { type Tracker } from '@rephub/bitmap';
import { ConfigFault, type Logger } from '@rephub/platform';
import { type KeptFinding, MAX_UNTOLD, untoldSchema, type VerifyReport } from '@rephub/protocol';

const NOTE = 'found';
/** Of one report. */
const MOST_PLACES = 8;
/** All notes have one block together: of this one so many bytes, or less where the others have taken more than their part. */
const NOTE_BYTES: readonly number[] = [1536, 768, 384];
/** What is said of each, until all fit: so many places, and so many characters of a text. The cause of a sample is shorter. */
const DETAILS = [
  { places: MOST_PLACES, characters: 200 },
  { places: 2, characters: 60 },
  { places: 0, characters: 20 },
] as const;

export class Findings {
  readonly #tracker: Tracker;
  readonly #log: Logger;
  readonly #nowMs: () => number;
  #untold: Finding[] = [];
  #asked = 0;
  #noted = 0;
  #noting: Promise<void> | null = null;

  constructor(tracker: Tracker, log: Logger, nowMs: () => number) {
    this.#tracker = tracker;
    this.#log = log;
    this.#nowMs = nowMs;
    for (const report of this.#recalled()) this.#untold.push({ report, sinceMs: nowMs() });
    for (const { id, bytesDiffer } of this.untold) log.warn('finding-recalled', { id, bytesDiffer });
  }

  /** What no hub has yet, oldest first; at first what processes before this one have found. */
  get untold(): readonly VerifyReport[] {
    return this.#untold.map(({ report }) => report);
  }

  /** Something differs, or more than when this was called last. Never rejects: where it cannot be noted the log says so. */
  async keep(report: VerifyReport): Promise<void> {
    const others = this.#untold.filter((finding) => finding.report.id !== report.id);
    // A difference is told by its places; there is no room in the note for what else there is to say of each volume.
    const kept = { ...report, differs: report.differs.slice(0, MOST_PLACES) };
    delete kept.volumes;
    const finding = { report: kept, sinceMs: this.#nowMs() };
    this.#untold = [...others.slice(-(MAX_UNTOLD - 1)), finding];
    await this.#note();
  }

  /** The hub has the events of these on its disk. */
  kept(findings: readonly KeptFinding[]): void {
    this.#drop(({ report }) =>
      findings.some(({ id, bytesDiffer }) => id === report.id && bytesDiffer >= report.bytesDiffer),
    );
  }

  /** A hub that cannot say what it keeps has read the beat that was sent at this time. */
  heard(sentMs: number): void {
    this.#drop(({ sinceMs }) => sinceMs < sentMs);
  }

  #drop(isTold: (finding: Finding) => boolean): void {
    const left = this.#untold.filter((finding) => !isTold(finding));
    if (left.length === this.#untold.length) return;
    this.#untold = left;
    void this.#note();
  }

  /** Resolves when what is untold now is noted; many that ask at once share what is written next. */
  async #note(): Promise<void> {
    const asked = ++this.#asked;
    try {
      while (this.#noted < asked) {
        this.#noting ??= this.#save().finally(() => {
          this.#noting = null;
        });
        await this.#noting;
      }
    } catch (fault) {
      this.#log.error('finding-not-noted', { fault: String(fault) });
    }
  }

  async #save(): Promise<void> {
    const version = this.#asked;
    for (const [attempt, mostBytes] of NOTE_BYTES.entries()) {
      const { notes } = this.#tracker.identity;
      const { note, left } = noteOf(this.untold, mostBytes);
      try {
        await this.#tracker.saveIdentity({ notes: { ...notes, [NOTE]: note } });
        this.#noted = version;
        for (const { id } of left) this.#log.error('finding-not-noted', { id, fault: 'there is no room for it' });
        return;
      } catch (fault) {
        const isTooBig = fault instanceof ConfigFault && fault.code === 'identity-too-big';
        if (!isTooBig || attempt === NOTE_BYTES.length - 1) throw fault;
      }
    }
  }

  #recalled(): VerifyReport[] {
    const note = this.#tracker.identity.notes[NOTE] ?? '';
    if (note === '') return [];
    try {
      return untoldSchema.parse(JSON.parse(note));
    } catch (fault) {
      // Another version's: that there is something to be told is known all the same.
      this.#log.error('finding-not-read', { note, fault: String(fault) });
      return [];
    }
  }
}

interface Finding {
  readonly report: VerifyReport;
  /** When it came to be what it is, by the monotonic clock. */
  readonly sinceMs: number;
}

/** Of as many as there is room for, the newest first to be; `left` are those that it does not speak of. */
function noteOf(
  untold: readonly VerifyReport[],
  mostBytes: number,
): { readonly note: string; readonly left: readonly VerifyReport[] } {
  for (let first = 0; first < untold.length; first++) {
    for (const { places, characters } of DETAILS) {
      const note = JSON.stringify(untold.slice(first).map((report) => shortened(report, places, characters)));
      // As it will stand there, within JSON.
      if (Buffer.byteLength(JSON.stringify(note)) <= mostBytes) return { note, left: untold.slice(0, first) };
    }
  }
  return { note: '', left: untold };
}

function shortened(report: VerifyReport, places: number, characters: number): VerifyReport {
  return {
    ...report,
    cause: report.cause.slice(0, characters),
    reason: report.reason?.slice(0, characters) ?? null,
    differs: report.differs.slice(0, places),
  };
}
