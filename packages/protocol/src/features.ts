/**
 * What this version can do beyond protocol 1. The agent names all of it in Hello, the hub answers in Welcome with what
 * of that it can do too; only that is used (promise UPGRADE).
 */
import { HASHES_FEATURE } from './hashes.js';

export const FEATURES: readonly string[] = [HASHES_FEATURE];

/** What of the other side's features this side has too. */
export function commonFeatures(theirs: readonly string[]): string[] {
  return FEATURES.filter((feature) => theirs.includes(feature));
}
