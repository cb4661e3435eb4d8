/**
 * What a fault of the storage says of the disk: nothing, and it may pass or be put right while the hub runs; or that
 * the journal is not what came, which a start judges.
 */
import { CorruptionFault, Fault, StorageFault } from '@rephub/platform';

const OF_ROOM = ['disk-full', 'quota'] as const;
/** A file is not given now, and nothing is wrong with what is there. */
const OF_FILES = ['too-many-files', 'no-memory', 'no-permission', 'read-only', 'busy'] as const;

const ROOM: ReadonlySet<string> = new Set(OF_ROOM);
const OPENING: ReadonlySet<string> = new Set([...OF_ROOM, ...OF_FILES]);
const PASSING: ReadonlySet<string> = new Set([...OPENING, 'base-in-use', 'not-found']);

export function mayPass(thrown: unknown): boolean {
  return thrown instanceof StorageFault && PASSING.has(thrown.code);
}

export function isWantOfRoom(thrown: unknown): thrown is Fault {
  return thrown instanceof Fault && ROOM.has(thrown.code);
}

/**
 * Of what opens, makes or names a file that holds nothing yet: it may be done again, for nothing that counts was on its way
 * to the disk. A directory that is gone is no such thing: what was in it is gone as well.
 */
export function isWantOfFile(thrown: unknown): thrown is Fault {
  return thrown instanceof Fault && OPENING.has(thrown.code);
}

const DAMAGE: ReadonlySet<string> = new Set(['journal-damaged', 'journal-missing', 'journal-packed', 'journal-short']);

/** Records of the journal are not what came: what is still good of it, an opening of the group finds out. */
export function isJournalDamage(thrown: unknown): boolean {
  return thrown instanceof CorruptionFault && DAMAGE.has(thrown.code);
}
