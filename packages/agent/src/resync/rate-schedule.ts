/**
 * A cap that depends on the time of day: what `--max-rate` says beyond a number. Pure: a text, and a local time, to a rate.
 *
 *   --max-rate 'Mon-Fri 08:00-18:00=10MiB,22:00-06:00=none,50MiB'
 *
 * Entries are tried in order, the first that holds now decides; the last may be without a time of day, for all the rest; where
 * none holds there is no cap. `[DAYS ]HH:MM-HH:MM=RATE`: DAYS is a day or two with a dash between, English, three letters. The
 * begin belongs to the window, the end does not; 24:00 is an end. A window past midnight belongs to the day on which it begins.
 *
 * It is the clock on the wall that counts: where that leaves an hour out, or has one twice, so have the windows in it.
 */

/** Bytes a second; null: no cap. */
export type Rate = number | null;

export interface RateWindow {
  /** Of the day on which it begins; 0: Sunday. Every day when left out. */
  readonly days: readonly boolean[] | null;
  /** Minutes since midnight; an end that is not above the begin is of the next day. */
  readonly fromMinute: number;
  readonly toMinute: number;
  readonly rate: Rate;
}

export interface RateSchedule {
  readonly windows: readonly RateWindow[];
  /** Outside of all windows. */
  readonly otherwise: Rate;
  /** As it was written. */
  readonly text: string;
}

/** A moment as the clock on the wall shows it. */
export interface LocalTime {
  /** 0: Sunday. */
  readonly weekday: number;
  /** Since midnight. */
  readonly minute: number;
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAY_MINUTES = 24 * 60;
const MAX_ENTRIES = 64;

export type ParsedSchedule = { readonly value: RateSchedule } | { readonly expected: string };

/** Reads a schedule; `parseRate` reads what stands behind the `=`, and says what it expects. `expected` names the wrong part. */
export function parseSchedule(
  text: string,
  parseRate: (text: string) => { readonly value: Rate } | { readonly expected: string },
): ParsedSchedule {
  const entries = text.split(',').map((entry) => entry.trim());
  if (entries.length > MAX_ENTRIES) return { expected: `at most ${MAX_ENTRIES} entries` };
  const windows: RateWindow[] = [];
  let otherwise: Rate = null;
  for (const [at, entry] of entries.entries()) {
    const cut = entry.indexOf('=');
    const isLast = at === entries.length - 1;
    if (cut < 0 && !isLast) {
      return { expected: `HH:MM-HH:MM=RATE in place of "${entry}": only the last entry may be without a time of day` };
    }
    const rate = parseRate(entry.slice(cut + 1).trim());
    if ('expected' in rate) return { expected: `${rate.expected} in "${entry}"` };
    if (cut < 0) {
      otherwise = rate.value;
      continue;
    }
    const window = parseWindow(entry.slice(0, cut).trim());
    if (typeof window === 'string') return { expected: `${window} in "${entry}"` };
    windows.push({ ...window, rate: rate.value });
  }
  return { value: { windows, otherwise, text } };
}

/** The window, or what was expected. */
function parseWindow(text: string): Omit<RateWindow, 'rate'> | string {
  const parts = /^(?:(\S+)\s+)?(\S+)$/.exec(text);
  const days = parts?.[1] === undefined ? null : parseDays(parts[1]);
  if (days === undefined) return 'a day or two, as Sat or Mon-Fri,';
  const hours = /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(parts?.[2] ?? '');
  if (hours === null) return '[DAYS ]HH:MM-HH:MM before the =';
  const [fromMinute, toMinute] = [minuteOf(hours[1], hours[2]), minuteOf(hours[3], hours[4])];
  if (fromMinute === null || fromMinute === DAY_MINUTES || toMinute === null) return 'times from 00:00 to 24:00';
  if (fromMinute === toMinute) return 'an end other than the begin (all day is 00:00-24:00)';
  return { days, fromMinute, toMinute };
}

function minuteOf(hours: string | undefined, minutes: string | undefined): number | null {
  const minute = Number(hours) * 60 + Number(minutes);
  return Number(minutes) > 59 || minute > DAY_MINUTES ? null : minute;
}

/** Undefined: not days. */
function parseDays(text: string): readonly boolean[] | undefined {
  const [first, last = first, ...more] = text.toLowerCase().split('-');
  const from = DAYS.indexOf(first ?? '');
  const to = DAYS.indexOf(last ?? '');
  if (from < 0 || to < 0 || more.length > 0) return undefined;
  const length = ((to - from + 7) % 7) + 1;
  return DAYS.map((_, day) => (day - from + 7) % 7 < length);
}

/** The cap in force at that moment. */
export function rateAt({ windows, otherwise }: RateSchedule, now: LocalTime): Rate {
  const found = windows.find((window) => holds(window, now));
  return found === undefined ? otherwise : found.rate;
}

function holds({ days, fromMinute, toMinute }: RateWindow, { weekday, minute }: LocalTime): boolean {
  const onDay = (day: number): boolean => days === null || days[day] === true;
  if (toMinute > fromMinute) return onDay(weekday) && minute >= fromMinute && minute < toMinute;
  // Over midnight: of today since its begin, or of yesterday before its end.
  return (onDay(weekday) && minute >= fromMinute) || (onDay((weekday + 6) % 7) && minute < toMinute);
}
