/**
 * Tells the next process what this one knows of upstream and may not live to mend, in notes in the identity file, made at once:
 *  - What a failed flush has dropped, and readers see still, may be anything that is marked then: that is written again when
 *    it is copied (doubts.ts).
 *  - Acknowledged writes are gone, or upstream went and they are not played yet: the guest's next flush must fail (FLUSH).
 *
 * Always holds: what is noted of a volume belongs to its name, for its number may be another at the next start; of one that is
 * away it stays until it is back. Where there is no room for all names, what explains something gives way to them; if that
 * does not do, every volume is noted that the directory knows, which takes one character.
 * Must not know: flushes, upstream.
 */
import { type Tracker } from '@rephub/bitmap';
import { ConfigFault, type Logger } from '@rephub/platform';
import { digest, NAME_DIGITS } from '../digest.js';
import { type Doubts } from './doubts.js';
import { type FlushDebt } from './flush-debt.js';
import { OPEN_NOTE } from '../upstream-watch.js';

const DROPPED = 'dropped';
const OWED = 'flush-error-owed';
/** Every volume of this directory, those that are away included. */
const ALL = '*';
/** Notes that something can do without: what parts two lines, and which files the upstreams were while the agent ran. */
const DISPENSABLE = ['divergence', OPEN_NOTE];
/** One run of marks may be the whole disk. */
const STEP_BYTES = 256 * 1024 * 1024;

interface Noted {
  readonly [DROPPED]: string;
  readonly [OWED]: string;
}

type Doubted = Readonly<Record<keyof Noted, readonly string[]>>;

export interface DoubtedVolume {
  /** In marks. */
  readonly index: number;
  readonly name: string;
  readonly doubts: Doubts;
  /** Something is in doubt, or will be if this process does not live to write it again. */
  readonly mayHaveDropped: boolean;
  readonly debt: Pick<FlushDebt, 'isOwed' | 'owe'>;
}

export class DoubtNote {
  readonly #tracker: Tracker;
  readonly #log: Logger;
  readonly #volumes: () => readonly DoubtedVolume[];
  #isRecalling = false;
  #isSaving = false;
  /** What an earlier process has noted of volumes that are not here. */
  #away: Doubted = { [DROPPED]: [], [OWED]: [] };
  /** What the notes stand for. */
  #noted: Noted | null = null;

  constructor(tracker: Tracker, log: Logger, volumes: () => readonly DoubtedVolume[]) {
    this.#tracker = tracker;
    this.#log = log;
    this.#volumes = volumes;
  }

  /** What an earlier process has left: before anything is copied. */
  recall(): void {
    const { notes } = this.#tracker.identity;
    this.#away = { [DROPPED]: this.#awayIn(notes[DROPPED]), [OWED]: this.#awayIn(notes[OWED]) };
    // One volume's must not be noted as all that there is, before the next one's is recalled.
    this.#isRecalling = true;
    for (const volume of this.#volumes()) {
      const flushErrorOwed = isNoted(notes[OWED], volume);
      const bytes = isNoted(notes[DROPPED], volume) ? this.#doubtMarked(volume) : 0;
      if (flushErrorOwed) volume.debt.owe();
      if (bytes > 0 || flushErrorOwed)
        this.#log.warn('doubts-recalled', { volume: volume.name, bytes, flushErrorOwed });
    }
    this.#isRecalling = false;
    this.look();
  }

  /** Notes what is to be known, where that is not noted yet. Never rejects. */
  look(): void {
    if (this.#isRecalling || this.#isSaving) return;
    const volumes = this.#volumes();
    const meant: Noted = {
      [DROPPED]: this.#noteOf(DROPPED, volumes, (volume) => volume.mayHaveDropped),
      [OWED]: this.#noteOf(OWED, volumes, ({ debt }) => debt.isOwed),
    };
    const { notes } = this.#tracker.identity;
    const noted = this.#noted ?? { [DROPPED]: notes[DROPPED] ?? '', [OWED]: notes[OWED] ?? '' };
    if (meant[DROPPED] === noted[DROPPED] && meant[OWED] === noted[OWED]) return;
    void this.#save(meant);
  }

  /** One at a time, however fast upstream comes and goes; then what is known by then. */
  async #save(meant: Noted): Promise<void> {
    this.#isSaving = true;
    try {
      await this.#saveWhatFits(meant);
      this.#noted = meant;
    } catch (fault) {
      this.#log.error('doubts-not-noted', { fault: String(fault) });
      return;
    } finally {
      this.#isSaving = false;
    }
    this.look();
  }

  async #saveWhatFits(meant: Noted): Promise<void> {
    const short = { [DROPPED]: shortened(meant[DROPPED]), [OWED]: shortened(meant[OWED]) };
    for (const wanted of [meant, short]) {
      if (await this.#fits(wanted, [])) return;
      if (await this.#fits(wanted, DISPENSABLE)) return;
    }
    throw new ConfigFault('identity-too-big', 'the other notes leave no room to say that volumes are in doubt');
  }

  /** False: there is no room, and nothing has changed. Rejects with the fault of a disk that does not take it. */
  async #fits(wanted: Noted, without: readonly string[]): Promise<boolean> {
    // As they are now: others may have noted something since the last try.
    const { notes } = this.#tracker.identity;
    const others = Object.fromEntries(Object.entries(notes).filter(([name]) => !without.includes(name)));
    try {
      await this.#tracker.saveIdentity({ notes: { ...others, ...wanted } });
      return true;
    } catch (fault) {
      if (fault instanceof ConfigFault && fault.code === 'identity-too-big') return false;
      throw fault;
    }
  }

  /** Of volumes that are not here: those that were noted, or all that the directory knows. */
  #awayIn(note = ''): readonly string[] {
    if (note === ALL) return this.#tracker.awayNames.map(entryOf);
    const here = this.#volumes().map(({ name }) => entryOf(name));
    return note.split(',').filter((noted) => noted !== '' && !here.includes(noted));
  }

  /** Which volumes are meant, and which were and are away. */
  #noteOf(kind: keyof Noted, volumes: readonly DoubtedVolume[], isMeant: (volume: DoubtedVolume) => boolean): string {
    return [...this.#away[kind], ...volumes.filter(isMeant).map(({ name }) => entryOf(name))].join();
  }

  /** Returns how many bytes. */
  #doubtMarked({ index, doubts }: DoubtedVolume): number {
    let bytes = 0;
    for (const { offset, length } of this.#tracker.runs(index)) {
      for (let at = offset; at < offset + length; at += STEP_BYTES) {
        const step = Math.min(STEP_BYTES, offset + length - at);
        if (doubts.add(at, step)) bytes += step;
      }
    }
    return bytes;
  }
}

/** Of more than one volume. */
function shortened(note: string): string {
  return note.includes(',') ? ALL : note;
}

function isNoted(note = '', { name }: DoubtedVolume): boolean {
  return note === ALL || note.split(',').includes(entryOf(name));
}

function entryOf(name: string): string {
  return digest(name, NAME_DIGITS);
}
