/**
 * What the agent must remember of its standing with the hub, across restarts: whether the operator paused
 * it, whether the hub has barred it, which numbers are reserved, and which mode was in force. Kept in the identity file's notes.
 *
 * Always holds: a number is used only when a durable reserve above it exists, so that no crash makes one be
 * given twice; an agent that was barred stays away until an operator says otherwise, for its next start shows a
 * higher session number, which would hide what was wrong (promise LINEAGE).
 */
import { type Tracker } from '@rephub/bitmap';
import { type Divergence, divergenceSchema, type Hello, MAX_EARLIER_SESSIONS } from '@rephub/protocol';
import { type AckMode } from '../mirror/acknowledgement.js';

/** Numbers are reserved so far ahead of their use. */
const RESERVED_NUMBERS = 2 ** 20;
const MAX_NOTE_LENGTH = 500;
/** Of a session's nonce, so much is noted. */
const NOTED_DIGITS = 8;
/** Refusals, and rows of the lineage table, that a mere restart of the agent would get around. */
const BARRING = new Set([
  'session-back',
  'session-copied',
  'superseded',
  'split-brain',
  'L4-session-back',
  'L5-failed-over',
  'L6-other-line',
  'L7-split-brain',
  'L11-hub-ahead',
]);

export class Standing {
  readonly #tracker: Tracker;
  #paused: boolean;
  #barred: string;
  #divergence: Divergence | null;
  #reserved: number;
  readonly #reservedBefore: number;
  #reserving: Promise<void> | null = null;
  /** Sessions that were noted by processes before this one, newest first. */
  readonly earlierSessions: NonNullable<Hello['earlierSessions']>;
  #sessionNoted = false;

  constructor(tracker: Tracker) {
    const { notes } = tracker.identity;
    this.#tracker = tracker;
    this.#paused = notes['paused'] === 'yes';
    this.#barred = notes['barred'] ?? '';
    this.#divergence = readDivergence(notes['divergence'] ?? '');
    this.#reserved = Number(notes['reserved'] ?? 0);
    this.#reservedBefore = this.#reserved;
    this.earlierSessions = readSessions(notes['sessions'] ?? '');
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Why this agent must not come back by itself; null: it may. */
  get barred(): string | null {
    return this.#barred === '' ? null : this.#barred;
  }

  /** What parts this agent's line from the hub's, while that is why it is barred. */
  get divergence(): Divergence | null {
    return this.#divergence;
  }

  /** The highest number that an earlier process may have used: exact after an orderly stop, else the reserve. */
  get lastNumberBefore(): number {
    const { lastNumber } = this.#tracker.identity;
    return this.#tracker.found === 'clean' ? lastNumber : Math.max(lastNumber, this.#reservedBefore);
  }

  /** The mode in force, as far as the disk knows: while it says so, the hub has all that the guest was told is done. */
  get inForce(): AckMode {
    const mode = this.#tracker.identity.notes['in-force'];
    return mode === 'sync' || mode === 'semi-sync' ? mode : 'async';
  }

  /** Durable when it resolves. */
  async noteInForce(mode: AckMode): Promise<void> {
    // That none is takes no more room than what it was: however full the notes are, it can be stored.
    await this.#note({ 'in-force': mode === 'async' ? '' : mode });
  }

  /** Makes sure, durably, that a later process knows of this one's session: before the hub hears of it. */
  async noteSession(nonce: string): Promise<void> {
    if (this.#sessionNoted) return;
    const mine = { session: this.#tracker.identity.session, nonce: nonce.slice(0, NOTED_DIGITS) };
    const noted = [mine, ...this.earlierSessions].slice(0, MAX_EARLIER_SESSIONS);
    await this.#note({ sessions: noted.map((one) => `${one.session}:${one.nonce}`).join(' ') });
    this.#sessionNoted = true;
  }

  async pause(): Promise<void> {
    await this.#note({ paused: 'yes' });
    this.#paused = true;
  }

  /** The operator's word to go on, after a pause or after having been barred. */
  async goOn(): Promise<void> {
    await this.#note({ paused: 'no', barred: '', divergence: '' });
    this.#paused = false;
    this.#barred = '';
    this.#divergence = null;
  }

  static isBarring(codeOrRow: string): boolean {
    return BARRING.has(codeOrRow);
  }

  /** Takes effect at once; durable when it resolves, the explanation last, for which there may be no room. */
  async bar(why: string, divergence: Divergence | null = null): Promise<void> {
    this.#barred = why.slice(0, MAX_NOTE_LENGTH);
    this.#divergence = divergence;
    await this.#note({ barred: this.#barred, divergence: '' });
    if (divergence !== null) await this.#note({ divergence: JSON.stringify(divergence) });
  }

  /** Makes sure, durably, that the numbers after `lastNumber` are this process's. */
  async reserve(lastNumber: number): Promise<void> {
    const reserved = lastNumber + RESERVED_NUMBERS;
    await this.#note({ reserved: String(reserved) });
    this.#reserved = reserved;
  }

  /** Reserves more once half is used; null when nothing is to be done. Half a million records leave time enough for one sync. */
  reserveMore(lastNumber: number): Promise<void> | null {
    if (this.#reserving !== null || lastNumber < this.#reserved - RESERVED_NUMBERS / 2) return null;
    this.#reserving = this.reserve(lastNumber).finally(() => {
      this.#reserving = null;
    });
    return this.#reserving;
  }

  async #note(notes: Readonly<Record<string, string>>): Promise<void> {
    await this.#tracker.saveIdentity({ notes: { ...this.#tracker.identity.notes, ...notes } });
  }
}

function readDivergence(note: string): Divergence | null {
  if (note === '') return null;
  try {
    return divergenceSchema.parse(JSON.parse(note));
  } catch {
    // Another version's: the reason in words is there all the same.
    return null;
  }
}

function readSessions(note: string): NonNullable<Hello['earlierSessions']> {
  return note.split(' ').flatMap((entry) => {
    const [, session, nonce] = /^(\d{1,15}):([0-9a-f]{8})$/.exec(entry) ?? [];
    return session === undefined || nonce === undefined ? [] : [{ session: Number(session), nonce }];
  });
}
