/**
 * What `status --watch` shows: the newest table, and over a restart of the hub the last one, with a line that says so.
 *
 * To a terminal each showing goes over the one before. To a pipe, and as JSON, stdout has nothing but answers, one after the
 * other; that the hub is away, and back, is said once on stderr.
 */
import { formatDuration } from '@rephub/command';

export interface Showing {
  readonly out: string;
  readonly err: string;
}

const HOME_AND_CLEAR = '\x1b[H\x1b[2J';

export class WatchScreen {
  readonly #isTerminal: boolean;
  #last = '';
  #answeredUnixMs: number | null = null;
  #isAway = false;

  constructor(isTerminal: boolean) {
    this.#isTerminal = isTerminal;
  }

  /** It has answered at all: before that, nobody being there is a mistake and nothing to wait for. */
  get hasAnswered(): boolean {
    return this.#answeredUnixMs !== null;
  }

  answered(text: string, unixMs: number): Showing {
    const err = this.#isAway && !this.#isTerminal ? 'The hub answers again.\n' : '';
    this.#last = text;
    this.#answeredUnixMs = unixMs;
    this.#isAway = false;
    return { out: this.#isTerminal ? HOME_AND_CLEAR + text : text, err };
  }

  away(why: string, unixMs: number): Showing {
    const sinceMs = this.#answeredUnixMs ?? unixMs;
    const since = new Date(sinceMs).toISOString().replace(/\.\d+Z$/, 'Z');
    const isNew = !this.#isAway;
    this.#isAway = true;
    if (!this.#isTerminal) {
      return { out: '', err: isNew ? `The hub is away since ${since}: ${why} Waiting for it.\n` : '' };
    }
    const ago = formatDuration(Math.max(0, Math.round((unixMs - sinceMs) / 1000)) * 1000);
    const said = `The hub is away since ${since}, for ${ago}: ${why}\nWaiting for it; what stands above is of then.\n`;
    return { out: `${HOME_AND_CLEAR}${this.#last}\n${said}`, err: '' };
  }
}
