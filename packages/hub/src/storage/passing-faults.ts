/** Which words of the file system say nothing of what is on the disk, and may pass or be put right while the hub runs. */
import { StorageFault } from '@rephub/platform';

const PASSING: ReadonlySet<string> = new Set([
  'disk-full',
  'quota',
  'too-many-files',
  'no-permission',
  'read-only',
  'not-found',
  'busy',
]);

export function mayPass(thrown: unknown): boolean {
  return thrown instanceof StorageFault && PASSING.has(thrown.code);
}
