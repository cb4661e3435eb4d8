/**
 * What a fault of the storage says of the disk: nothing, and it may pass or be put right while the hub runs; or that
 * the journal is not what came, which a start judges.
 */
import { CorruptionFault, StorageFault } from '@rephub/platform';

const PASSING: ReadonlySet<string> = new Set([
  'disk-full',
  'quota',
  'too-many-files',
  'base-in-use',
  'no-permission',
  'read-only',
  'not-found',
  'busy',
]);

export function mayPass(thrown: unknown): boolean {
  return thrown instanceof StorageFault && PASSING.has(thrown.code);
}

const DAMAGE: ReadonlySet<string> = new Set(['journal-damaged', 'journal-missing', 'journal-packed', 'journal-short']);

/** Records of the journal are not what came: what is still good of it, an opening of the group finds out. */
export function isJournalDamage(thrown: unknown): boolean {
  return thrown instanceof CorruptionFault && DAMAGE.has(thrown.code);
}
