import { describe, expect, it } from 'vitest';
import { parseSchedule, type Rate, rateAt, type RateSchedule } from './rate-schedule.js';

const parseRate = (text: string): { readonly value: Rate } | { readonly expected: string } => {
  if (text === 'none') return { value: null };
  return /^\d+$/.test(text) ? { value: Number(text) } : { expected: 'a rate' };
};

function schedule(text: string): RateSchedule {
  const parsed = parseSchedule(text, parseRate);
  if ('expected' in parsed) throw new Error(parsed.expected);
  return parsed.value;
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/** `Mon 08:30`. */
function at(text: string, when: string): Rate {
  const [day = '', hours = '', minutes = ''] = when.split(/[ :]/);
  return rateAt(schedule(text), { weekday: DAYS.indexOf(day), minute: Number(hours) * 60 + Number(minutes) });
}

const WORK = 'Mon-Fri 08:00-18:00=10,none';
const NIGHT = '22:00-06:00=50,5';
const WEEKEND_NIGHT = 'Fri-Sat 22:00-02:00=1,2';

describe('a cap by the time of day', () => {
  it.each<[string, string, Rate]>([
    ['100', 'Wed 12:00', 100],
    ['none', 'Wed 12:00', null],
    [WORK, 'Mon 07:59', null],
    [WORK, 'Mon 08:00', 10],
    [WORK, 'Fri 17:59', 10],
    [WORK, 'Fri 18:00', null],
    [WORK, 'Sat 12:00', null],
    [WORK, 'Sun 12:00', null],
    [NIGHT, 'Sun 21:59', 5],
    [NIGHT, 'Sun 22:00', 50],
    [NIGHT, 'Mon 00:00', 50],
    [NIGHT, 'Mon 05:59', 50],
    [NIGHT, 'Mon 06:00', 5],
    [WEEKEND_NIGHT, 'Fri 23:00', 1],
    [WEEKEND_NIGHT, 'Sat 01:59', 1],
    [WEEKEND_NIGHT, 'Sun 01:59', 1],
    [WEEKEND_NIGHT, 'Sun 22:30', 2],
    [WEEKEND_NIGHT, 'Fri 01:00', 2],
    ['Sat 00:00-24:00=7,8', 'Sat 23:59', 7],
    ['Sat 00:00-24:00=7,8', 'Sun 00:00', 8],
    ['Sat-Mon 10:00-11:00=7', 'Sun 10:30', 7],
    ['Sat-Mon 10:00-11:00=7', 'Tue 10:30', null],
    ['sat 10:00-11:00=7 , 8', 'Sat 10:30', 7],
    // The first that holds decides.
    ['12:00-13:00=none,Mon-Fri 08:00-18:00=10,20', 'Tue 12:30', null],
    ['12:00-13:00=none,Mon-Fri 08:00-18:00=10,20', 'Tue 13:00', 10],
    ['08:00-18:00=10', 'Tue 18:00', null],
  ])('%s on %s: %s', (text, when, expected) => {
    expect(at(text, when)).toBe(expected);
  });

  it.each<[string, string]>([
    ['', 'a rate in ""'],
    ['fast', 'a rate in "fast"'],
    ['08:00-18:00=fast,5', 'a rate in "08:00-18:00=fast"'],
    ['5,08:00-18:00=10', 'in place of "5": only the last entry'],
    ['08:00-18:00=10,,5', 'in place of ""'],
    ['8:00-18:00=10', '[DAYS ]HH:MM-HH:MM before the = in "8:00-18:00=10"'],
    ['08:00=10', '[DAYS ]HH:MM-HH:MM before the ='],
    ['=10', '[DAYS ]HH:MM-HH:MM before the ='],
    ['08:00-25:00=10', 'times from 00:00 to 24:00'],
    ['08:60-09:00=10', 'times from 00:00 to 24:00'],
    ['24:00-09:00=10', 'times from 00:00 to 24:00'],
    ['08:00-08:00=10', 'an end other than the begin'],
    ['Mon-Fry 08:00-09:00=10', 'a day or two, as Sat or Mon-Fri, in "Mon-Fry 08:00-09:00=10"'],
    ['Mon-Tue-Wed 08:00-09:00=10', 'a day or two'],
    ['Monday 08:00-09:00=10', 'a day or two'],
    ['Mon Tue 08:00-09:00=10', '[DAYS ]HH:MM-HH:MM before the ='],
    [Array.from({ length: 65 }, () => '08:00-09:00=1').join(','), 'at most 64 entries'],
  ])('%s is refused, naming what is wrong', (text, expected) => {
    expect(parseSchedule(text, parseRate)).toMatchObject({ expected: expect.stringContaining(expected) as string });
  });
});
