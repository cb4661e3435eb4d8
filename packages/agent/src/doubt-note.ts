/**
 * Tells the next process what this one knows of upstream and may not live to mend, in notes in the identity file, made at once:
 *  - What a failed flush has dropped, and readers see still, may be anything that is marked then: that is written again when
 *    it is copied (doubts.ts).
 *  - Acknowledged writes are gone, or upstream went and they are not played yet: the guest's next flush must fail (FLUSH).
 *
 * Always holds: what is noted of a volume belongs to its name, for its number may be another at the next start; of one that is
 * away it stays until it is back.
 * Must not know: flushes, upstream.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Logger } from '@rephub/platform';
import { digest, NAME_DIGITS } from './digest.js';
import { type Doubts } from './doubts.js';
import { type FlushDebt } from './flush-debt.js';

const DROPPED = 'dropped';
const OWED = 'flush-error-owed';
/** One run of marks may be the whole disk. */
const STEP_BYTES = 256 * 1024 * 1024;

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

  constructor(tracker: Tracker, log: Logger, volumes: () => readonly DoubtedVolume[]) {
    this.#tracker = tracker;
    this.#log = log;
    this.#volumes = volumes;
  }

  /** What an earlier process has left: before anything is copied. */
  recall(): void {
    const { notes } = this.#tracker.identity;
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
    const { notes } = this.#tracker.identity;
    const dropped = noteOf(volumes, (volume) => volume.mayHaveDropped, notes[DROPPED]);
    const owed = noteOf(volumes, ({ debt }) => debt.isOwed, notes[OWED]);
    if (dropped === (notes[DROPPED] ?? '') && owed === (notes[OWED] ?? '')) return;
    void this.#save({ ...notes, [DROPPED]: dropped, [OWED]: owed });
  }

  /** One at a time, however fast upstream comes and goes; then what is known by then. */
  async #save(notes: Readonly<Record<string, string>>): Promise<void> {
    this.#isSaving = true;
    try {
      await this.#tracker.saveIdentity({ notes });
    } catch (fault) {
      this.#log.warn('identity-not-saved', { fault: String(fault) });
      return;
    } finally {
      this.#isSaving = false;
    }
    this.look();
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

/** Which volumes are meant, and which were and are away. */
function noteOf(volumes: readonly DoubtedVolume[], isMeant: (volume: DoubtedVolume) => boolean, before = ''): string {
  const away = before
    .split(',')
    .filter((noted) => noted !== '' && !volumes.some((volume) => entryOf(volume) === noted));
  return [...away, ...volumes.filter(isMeant).map(entryOf)].join();
}

function isNoted(note = '', volume: DoubtedVolume): boolean {
  return note.split(',').includes(entryOf(volume));
}

function entryOf({ name }: DoubtedVolume): string {
  return digest(name, NAME_DIGITS);
}
