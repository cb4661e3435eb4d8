/**
 * Marks that were written and not synced outlive a killed process, not the host's power: whether the host was started anew
 * since decides whether they may be believed. Pure.
 *
 * The identity says how its marks were kept last:
 *   synced          on the disk, whatever happens to the host: durability `host`, or an orderly end
 *   unsynced ID     with the kernel of the host's run ID (its boot id); no ID: nobody could tell which run it was
 *   (nothing)       by a version that did not say
 *
 * Always holds: what may be unsynced is believed only within one run of the host that is known.
 */
export const SYNCED = 'synced';

/** How marks are kept from now on. */
export function keptAs(durability: 'host' | 'process', bootId: string | null): string {
  return durability === 'host' ? SYNCED : `unsynced ${bootId ?? ''}`;
}

/** Why marks that were not left in order are not to be believed; null: nothing speaks against them. */
export function bootDoubt(kept: string, durability: 'host' | 'process', bootId: string | null): string | null {
  if (kept === SYNCED) return null;
  if (kept === '') {
    return durability === 'host'
      ? null
      : 'marks that are not synced (durability process) were left by a version that did not note which run of the host it was';
  }
  const id = kept.slice(keptAs('process', null).length);
  if (id !== '' && id === bootId) return null;
  return id === '' || bootId === null
    ? 'marks were not synced (durability process), and without a boot id nobody can tell whether the host was started anew'
    : 'marks were not synced (durability process), and the host was started anew';
}
