/**
 * A bug that nobody has caught ends the hub: it is told, and the process ends at once with exit code 1, for whoever looks after it
 * to start it again. What was acknowledged is on the disk, as when it is killed, and a start trusts nothing else; a hub that
 * went on could acknowledge what a lost error denies.
 *
 * Must not know: what the hub does.
 */
import { EXIT, type OpenLogger } from '@rephub/command';
import { asError } from '@rephub/platform';
import type { EventLog } from '../events/events.js';

export interface UncaughtWatch {
  /** From now on it is an event too: kept, as far as that goes without waiting. */
  keptIn(events: EventLog): void;
  release(): void;
}

export function endOnUncaught(log: OpenLogger): UncaughtWatch {
  let events: EventLog | null = null;
  const bug = (thrown: unknown): void => {
    const { message, stack } = asError(thrown);
    const fields = { fault: stack ?? message };
    try {
      // The log hears of it as of every event.
      if (events === null) log.error('bug', fields);
      else events.tell(null, 'error', 'bug', message, fields);
    } catch {
      log.error('bug', fields);
    } finally {
      log.flush();
      // What was handed to the system by then, the event's line too, is still written.
      process.exit(EXIT.failed);
    }
  };
  process.on('uncaughtException', bug).on('unhandledRejection', bug);
  return {
    keptIn: (kept) => {
      events = kept;
    },
    release: () => {
      process.off('uncaughtException', bug).off('unhandledRejection', bug);
    },
  };
}
