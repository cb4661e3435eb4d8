import { SimClock } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { EventLog, loggerOf } from './events.js';

test('ids go on above those of the run before, whatever the clock says', () => {
  const clock = new SimClock({ unixMs: 1000 });
  const before = { id: 5000, unixMs: 5000, level: 'info', group: null, event: 'a', message: 'x', fields: {} } as const;
  const log = new EventLog(clock, [before]);
  log.tell(null, 'info', 'a', 'first');
  expect(log.after(null, 10).map((event) => event.id)).toEqual([5000, 5001]);
  expect(log.ofThisRun.map((event) => event.id)).toEqual([5001]);
  const other = new EventLog(clock);
  other.tell(null, 'info', 'a', 'first');
  expect(other.after(null, 10).map((event) => event.id)).toEqual([1000]);
});

test('a reader gets what came after the last it saw, oldest first', () => {
  const log = new EventLog(new SimClock({ unixMs: 0 }));
  for (let count = 1; count <= 5; count += 1) log.tell('vm1', 'info', 'e', String(count));
  expect(log.after(2, 2).map((event) => event.message)).toEqual(['3', '4']);
  expect(log.after(5, 10)).toEqual([]);
  expect(log.after(null, 2).map((event) => event.message)).toEqual(['4', '5']);
});

test('the newest are kept, however many there are', () => {
  const log = new EventLog(new SimClock({ unixMs: 0 }));
  for (let count = 1; count <= 25_000; count += 1) log.tell(null, 'info', 'e', String(count));
  const kept = log.after(0, 100_000);
  expect(kept.length).toBeLessThanOrEqual(10_000);
  expect(kept.at(-1)?.message).toBe('25000');
});

test('what storage logs becomes an event of its group, its debug lines do not', () => {
  const log = new EventLog(new SimClock());
  const logger = loggerOf(log.teller('vm1'));
  logger.debug('detail');
  logger.warn('tail-cut', { message: 'the tail was cut', bytes: 7, why: undefined });
  expect(log.after(null, 10)).toMatchObject([
    { group: 'vm1', level: 'warn', event: 'tail-cut', message: 'the tail was cut', fields: { bytes: 7 } },
  ]);
});

test('what is logged without a message says its fields, not its name once more', () => {
  const log = new EventLog(new SimClock());
  loggerOf(log.teller('vm1')).info('last-good-dropped', { line: 'a', number: 7 });
  expect(log.after(null, 10)).toMatchObject([{ event: 'last-good-dropped', message: 'line a, number 7' }]);
});
