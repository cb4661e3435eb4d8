/**
 * What happened, for people and for `rephub events`: rare things only, never per record. The newest are kept
 * in memory, all are handed to whoever listens (the log, the file that a restart reads).
 *
 * Always holds: ids rise, also over a restart and over the loss of that file, as long as the wall clock
 * does not go back further than the hub was down.
 */
import type { Clock, LogFields, Logger } from '@rephub/platform';

export type EventLevel = 'info' | 'warn' | 'error';
export type EventFields = Readonly<Record<string, string | number | boolean | null>>;

export interface HubEvent {
  readonly id: number;
  readonly unixMs: number;
  readonly level: EventLevel;
  /** Null: of the hub as a whole. */
  readonly group: string | null;
  /** Stable and kebab-case. */
  readonly event: string;
  readonly message: string;
  readonly fields: EventFields;
}

/** How one part of the hub tells what happened to it. */
export type Tell = (level: EventLevel, event: string, message: string, fields?: EventFields) => void;

const KEPT = 5000;

export class EventLog {
  readonly #clock: Clock;
  readonly #listeners: ((event: HubEvent) => void)[] = [];
  #events: HubEvent[] = [];
  readonly #ownFromId: number;
  #nextId: number;

  /** `earlier`: what runs before this one have told, ids rising. */
  constructor(clock: Clock, earlier: readonly HubEvent[] = []) {
    this.#clock = clock;
    this.#events = earlier.slice(-KEPT);
    this.#nextId = Math.max((earlier.at(-1)?.id ?? 0) + 1, Math.floor(clock.unixMs()));
    this.#ownFromId = this.#nextId;
  }

  /** What this run has told so far. */
  get ofThisRun(): readonly HubEvent[] {
    return this.after(this.#ownFromId - 1, this.#events.length);
  }

  /** Of the newest event that any run has told. */
  get lastId(): number {
    return this.#nextId - 1;
  }

  listen(listener: (event: HubEvent) => void): void {
    this.#listeners.push(listener);
  }

  tell(group: string | null, level: EventLevel, event: string, message: string, fields: EventFields = {}): void {
    const entry = { id: this.#nextId++, unixMs: this.#clock.unixMs(), level, group, event, message, fields };
    this.#events.push(entry);
    // Cut in large steps: dropping one at a time would move the whole array with each event.
    if (this.#events.length >= 2 * KEPT) this.#events = this.#events.slice(-KEPT);
    for (const listener of this.#listeners) listener(entry);
  }

  /** A teller for one group, or for the hub. */
  teller(group: string | null): Tell {
    return (level, event, message, fields) => this.tell(group, level, event, message, fields);
  }

  /** Up to `limit` events with an id above `after`, oldest first; the newest `limit` when `after` is null. */
  after(after: number | null, limit: number): readonly HubEvent[] {
    if (after === null) return this.#events.slice(-limit);
    const from = this.#events.findIndex((event) => event.id > after);
    return from < 0 ? [] : this.#events.slice(from, from + limit);
  }
}

/** A teller as the Logger that storage and others write to; `debug` is for the log alone and goes nowhere here. */
export function loggerOf(tell: Tell): Logger {
  const at =
    (level: EventLevel) =>
    (event: string, fields: LogFields = {}): void => {
      const { message, ...others } = fields;
      const known = Object.entries(others).filter(
        (entry): entry is [string, EventFields[string]] => entry[1] !== undefined,
      );
      // The event's name stands beside its message: it says nothing a second time.
      const said = known.map(([name, value]) => `${name} ${value ?? 'none'}`).join(', ');
      tell(level, event, typeof message === 'string' ? message : said || event, Object.fromEntries(known));
    };
  return { debug: () => undefined, info: at('info'), warn: at('warn'), error: at('error') };
}
