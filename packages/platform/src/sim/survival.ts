/**
 * What a power cut makes of changes that were not synced. Owns the fates; knows content, not names.
 *
 * Always holds: what was synced is never touched; the same seed gives the same outcome. Sectors of
 * SECTOR_BYTES are written whole or not at all, unless garbled, and then only bytes that were being written.
 */
import type { Change, Content } from './content.js';
import type { SeededRandomness } from './randomness.js';

export const SECTOR_BYTES = 512;

/** What becomes of one unsynced change. */
export type Fate =
  /** It is on the disk. */
  | 'keep'
  /** It is not; a file it made longer may still be longer, and reads as zeroes there. */
  | 'lose'
  /** Some of its sectors are on the disk, others are not. */
  | 'tear'
  /** Some of its sectors are on the disk, others hold rubbish. */
  | 'garble';

/** `mixed` draws a fate for every change by itself; a killed process, with the machine going on, is `keep`. */
export type CrashFate = Fate | 'mixed';

const FATES: readonly Fate[] = ['keep', 'lose', 'tear', 'garble'];

/** Makes one unsynced change to what was on the disk, as far as it survives. */
export function survive(content: Content, change: Change, crashFate: CrashFate, randomness: SeededRandomness): void {
  const fate = crashFate === 'mixed' ? (FATES[randomness.below(FATES.length)] ?? 'lose') : crashFate;
  if (fate === 'keep') {
    content.apply(change);
    return;
  }
  if (change.kind !== 'write') {
    // Changes of metadata are whole or not there.
    if (fate !== 'lose' && randomness.chance()) content.apply(change);
    return;
  }
  if (fate !== 'lose') tear(content, change.position, change.bytes, fate, randomness);
  if (randomness.chance()) content.growTo(change.position + change.bytes.length);
}

function tear(content: Content, position: number, bytes: Uint8Array, fate: Fate, randomness: SeededRandomness): void {
  // Half of the torn writes break off once, as a disk does that works in order; the others lose any sectors.
  const breaksOff = randomness.chance();
  let broken = false;
  let done = 0;
  while (done < bytes.length) {
    const at = position + done;
    const part = Math.min(SECTOR_BYTES - (at % SECTOR_BYTES), bytes.length - done);
    broken = breaksOff ? broken || randomness.chance(0.3) : randomness.chance();
    if (!broken) content.apply({ kind: 'write', position: at, bytes: bytes.subarray(done, done + part) });
    else if (fate === 'garble') content.apply({ kind: 'write', position: at, bytes: randomness.bytes(part) });
    done += part;
  }
}

/** Whether a change of names (made, renamed, removed) that was not synced is there after the cut. */
export function nameSurvives(crashFate: CrashFate, randomness: SeededRandomness): boolean {
  if (crashFate === 'keep') return true;
  if (crashFate === 'lose') return false;
  return randomness.chance();
}
