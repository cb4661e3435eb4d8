/** A run of the hub as its events tell it: what earlier runs have left, how the last one ended, and that this one begins and ends. */
import type { Platform } from '@rephub/platform';
import { EventLog, type HubEvent } from './events.js';
import { EventsFile, type EventsTrouble } from './events-file.js';

/** Told last of all: the next start sees by it that this run has ended in order. */
const STOPPED = 'hub-stopped';
/** A bug that nobody caught: the last word of the run that it ended. */
const BUG = 'bug';

/** The events that the directory holds, and those to come kept in it. */
export async function openEvents(
  platform: Platform,
  directory: string,
): Promise<{ readonly events: EventLog; readonly file: EventsFile }> {
  const told: Parameters<EventsTrouble>[] = [];
  let trouble: EventsTrouble = (event, message) => void told.push([event, message]);
  const { clock, files } = platform;
  const file = await EventsFile.open({ clock, files, directory, trouble: (event, message) => trouble(event, message) });
  const events = new EventLog(clock, file.earlier);
  events.listen((event) => file.write(event));
  trouble = (event, message) => events.tell(null, event === 'events-kept-again' ? 'info' : 'warn', event, message);
  for (const [event, message] of told) trouble(event, message);
  return { events, file };
}

export function tellStart(events: EventLog, earlier: readonly HubEvent[], software: string): void {
  const last = earlier.at(-1);
  const wasOrderly = last === undefined ? null : last.event === STOPPED;
  const before = last === undefined ? '' : `; it ${endText(last.event)} ${new Date(last.unixMs).toISOString()}`;
  const level = wasOrderly === false ? 'warn' : 'info';
  events.tell(null, level, 'hub-started', `${software}${before}`, { orderly: wasOrderly });
}

function endText(lastEvent: string): string {
  if (lastEvent === STOPPED) return 'was stopped in order at';
  return lastEvent === BUG ? 'was ended by a bug of ours at' : 'had ended without a word, after';
}

export function tellStop(events: EventLog): void {
  events.tell(null, 'info', STOPPED, 'stopped in order');
}
